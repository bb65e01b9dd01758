"""Small random IP-Adapter files under the published names."""

from pathlib import Path

import torch
from safetensors.torch import save_file

WIDTH = 12
Tensors = dict[str, torch.Tensor]


def attention(layers: list[tuple[int, int]], seed: int = 1) -> Tensors:
    """Keys and values of cross attentions of these (inner, context) widths."""
    drawing = torch.Generator().manual_seed(seed)
    return {f"ip_adapter.{2 * place + 1}.{half}.weight": torch.randn(shape, generator=drawing) * 0.3
            for place, shape in enumerate(layers) for half in ("to_k_ip", "to_v_ip")}


def plain(layers: list[tuple[int, int]], width: int = WIDTH) -> Tensors:
    """A plain IP-Adapter for embeddings of `width` numbers."""
    drawing, context = torch.Generator().manual_seed(2), layers[0][1]
    return {"image_proj.proj.weight": torch.randn(4 * context, width, generator=drawing) * 0.3,
            "image_proj.proj.bias": torch.randn(4 * context, generator=drawing) * 0.1,
            "image_proj.norm.weight": torch.rand(context, generator=drawing) + 0.5,
            "image_proj.norm.bias": torch.randn(context, generator=drawing) * 0.1, **attention(layers)}


def plus(layers: list[tuple[int, int]], width: int = WIDTH, depth: int = 4, hidden: int = 64) -> Tensors:
    """A plus IP-Adapter: a resampler with one head of 64 and five tokens."""
    drawing, context = torch.Generator().manual_seed(3), layers[0][1]

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=drawing) * 0.2

    file = {"image_proj.latents": drawn(1, 5, hidden), "image_proj.proj_in.weight": drawn(hidden, width),
            "image_proj.proj_in.bias": drawn(hidden), "image_proj.proj_out.weight": drawn(context, hidden),
            "image_proj.proj_out.bias": drawn(context), "image_proj.norm_out.weight": drawn(context) + 1,
            "image_proj.norm_out.bias": drawn(context)}
    for layer in range(depth):
        start = f"image_proj.layers.{layer}."
        file |= {f"{start}0.norm1.weight": drawn(hidden) + 1, f"{start}0.norm1.bias": drawn(hidden),
                 f"{start}0.norm2.weight": drawn(hidden) + 1, f"{start}0.norm2.bias": drawn(hidden),
                 f"{start}0.to_q.weight": drawn(64, hidden), f"{start}0.to_kv.weight": drawn(128, hidden),
                 f"{start}0.to_out.weight": drawn(hidden, 64), f"{start}1.0.weight": drawn(hidden) + 1,
                 f"{start}1.0.bias": drawn(hidden), f"{start}1.1.weight": drawn(4 * hidden, hidden),
                 f"{start}1.3.weight": drawn(hidden, 4 * hidden)}
    return file | attention(layers)


def sections(tensors: Tensors) -> dict[str, Tensors]:
    """The file as its authors' .bin has it: {"image_proj": {...}, "ip_adapter": {...}}."""
    inner: dict[str, Tensors] = {}
    for key, value in tensors.items():
        section, _, name = key.partition(".")
        inner.setdefault(section, {})[name] = value
    return inner


def saved(tensors: Tensors, path: Path) -> Path:
    """Written as safetensors, or as torch's pickle of sections for another ending."""
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(sections(tensors), path)
    return path
