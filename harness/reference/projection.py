"""The part of an IP-Adapter that turns the embedding of a picture into tokens: its names in files, and its live module."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.declare.listing import first_of
from harness.weights.safetensors_header import ModelFileError

if TYPE_CHECKING:
    from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]
TOKENS: Final = 4
"""Of a plain IP-Adapter. Its file does not say so: with another number the same matrix would mean another width."""
HEAD: Final = 64
"""The width of a head of the resampler, in all published files."""
KEYS_VALUES: Final = "to_kv.weight"
_PLAIN: Final = {"image_embeds.weight": "proj.weight", "image_embeds.bias": "proj.bias", "norm.weight": "norm.weight",
                 "norm.bias": "norm.bias"}
_PLUS: Final = ("latents", *(f"{layer}.{name}" for layer in ("proj_in", "proj_out", "norm_out") for name in ("weight", "bias")))
_LAYER: Final = {"ln0.weight": "0.norm1.weight", "ln0.bias": "0.norm1.bias", "ln1.weight": "0.norm2.weight",
                 "ln1.bias": "0.norm2.bias", "attn.to_q.weight": "0.to_q.weight", f"attn.{KEYS_VALUES}": "0.to_kv.weight",
                 "attn.to_out.0.weight": "0.to_out.weight", "ff.0.weight": "1.0.weight", "ff.0.bias": "1.0.bias",
                 "ff.1.net.0.proj.weight": "1.1.weight", "ff.1.net.2.weight": "1.3.weight"}
"""Of each layer of a resampler: diffusers' name and the file's. Keys and values are one matrix there."""
_NUMBER: Final = re.compile(r"layers\.(\d{1,3})\.")


@dataclass(frozen=True, kw_only=True)
class Names:
    """{our name: the file's, without `image_proj.`}, and the sizes that the shapes show."""

    file_names: Mapping[str, str]
    encoder_width: int
    context_width: int
    tokens: int


def plain_names(where: str, shapes: Shapes) -> Names:
    """The names of a plain IP-Adapter. Raises ModelFileError, which names `where`."""
    _refuse_missing(where, _PLAIN.values(), shapes)
    rows, width = _matrix(where, "proj.weight", shapes)
    context = rows // TOKENS
    expected = {"proj.weight": (context * TOKENS, width), "proj.bias": (rows,), "norm.weight": (context,),
                "norm.bias": (context,)}
    _refuse_shapes(where, expected, shapes)
    return Names(file_names=_PLAIN, encoder_width=width, context_width=context, tokens=TOKENS)


def plus_names(where: str, shapes: Shapes) -> Names:
    """The names of a plus IP-Adapter: a resampler of some layers. Raises ModelFileError, which names `where`."""
    depth = 1 + max((int(match[1]) for name in shapes if (match := _NUMBER.match(name))), default=-1)
    file_names = {name: name for name in _PLUS} | {
        f"layers.{layer}.{ours}": f"layers.{layer}.{name}" for layer in range(depth) for ours, name in _LAYER.items()}
    _refuse_missing(where, file_names.values(), shapes)
    hidden, width = _matrix(where, "proj_in.weight", shapes)
    context, _ = _matrix(where, "proj_out.weight", shapes)
    tokens = shapes["latents"][1] if len(shapes["latents"]) == 3 else 0
    if not depth or not tokens:
        raise ModelFileError(f"{where}: its resampler has {depth} layers, and 'image_proj.latents' has the shape "
                             f"{list(shapes['latents'])}; expected at least one of (1, tokens, {hidden}). Download it again")
    inner, _ = _matrix(where, "layers.0.0.to_q.weight", shapes)
    wide, _ = _matrix(where, "layers.0.1.1.weight", shapes)
    if inner % HEAD or not inner:
        raise ModelFileError(f"{where}: its resampler's queries have {inner} numbers; expected a multiple of {HEAD}")
    layer = {"0.norm1.weight": (hidden,), "0.norm1.bias": (hidden,), "0.norm2.weight": (hidden,), "0.norm2.bias": (hidden,),
             "0.to_q.weight": (inner, hidden), "0.to_kv.weight": (2 * inner, hidden), "0.to_out.weight": (hidden, inner),
             "1.0.weight": (hidden,), "1.0.bias": (hidden,), "1.1.weight": (wide, hidden), "1.3.weight": (hidden, wide)}
    expected: dict[str, tuple[int, ...]] = {
        "latents": (1, tokens, hidden), "proj_in.weight": (hidden, width), "proj_in.bias": (hidden,),
        "proj_out.weight": (context, hidden), "proj_out.bias": (context,), "norm_out.weight": (context,),
        "norm_out.bias": (context,)}
    expected |= {f"layers.{number}.{name}": shape for number in range(depth) for name, shape in layer.items()}
    _refuse_shapes(where, expected, shapes)
    return Names(file_names=file_names, encoder_width=width, context_width=context, tokens=tokens)


def _refuse_missing(where: str, names: Any, shapes: Shapes) -> None:
    if missing := [repr(f"image_proj.{name}") for name in names if name not in shapes]:
        raise ModelFileError(f"{where}: {len(missing)} tensors are missing: {first_of(missing)}. Download it again")


def _refuse_shapes(where: str, expected: Shapes, shapes: Shapes) -> None:
    for name, shape in expected.items():
        if tuple(shapes[name]) != shape:
            raise ModelFileError(f"{where}: 'image_proj.{name}' has the shape {list(shapes[name])}; expected {list(shape)}. "
                                 "Download it again")


def _matrix(where: str, name: str, shapes: Shapes) -> tuple[int, int]:
    shape = tuple(shapes[name])
    if len(shape) != 2 or not all(shape):
        raise ModelFileError(f"{where}: 'image_proj.{name}' has the shape {list(shape)}; expected a matrix. Download it again")
    return shape[0], shape[1]


def plain_projection(tensors: Mapping[str, Tensor]) -> Any:
    """The live projection of a plain IP-Adapter: (n, encoder width) to (n, 4, context width), a linear layer and a norm."""
    from diffusers.models.embeddings import ImageProjection

    rows, width = tensors["image_embeds.weight"].shape
    module = ImageProjection(image_embed_dim=width, cross_attention_dim=rows // TOKENS, num_image_text_embeds=TOKENS)
    return _filled(module, tensors)


def plus_projection(tensors: Mapping[str, Tensor]) -> Any:
    """The live resampler of a plus IP-Adapter: (n, positions, encoder width) to (n, tokens, context width)."""
    from diffusers.models.embeddings import IPAdapterPlusImageProjection

    latents, inner = tensors["latents"], tensors["layers.0.attn.to_q.weight"].shape[0]
    depth = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("layers."))
    wide, hidden = tensors["layers.0.ff.1.net.0.proj.weight"].shape
    module = IPAdapterPlusImageProjection(
        embed_dims=tensors["proj_in.weight"].shape[1], output_dims=tensors["proj_out.weight"].shape[0], hidden_dims=hidden,
        depth=depth, dim_head=HEAD, heads=inner // HEAD, num_queries=latents.shape[1], ffn_ratio=wide / hidden)
    halves = {name: tensor for name, tensor in tensors.items() if not name.endswith(KEYS_VALUES)}
    for name in tensors.keys() - halves.keys():
        start = name.removesuffix(KEYS_VALUES)
        halves[f"{start}to_k.weight"], halves[f"{start}to_v.weight"] = tensors[name].chunk(2)
    return _filled(module, halves)


def _filled(module: Any, tensors: Mapping[str, Tensor]) -> Any:
    # Tensors without values replace those of the module, which has some.
    module.load_state_dict(tensors, strict=True, assign=any(tensor.is_meta for tensor in tensors.values()))
    return module.eval().requires_grad_(False)
