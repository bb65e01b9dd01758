"""The integer modes: which layers of a U-Net are quantized, by torchao or by this folder's own layers, and which are
kept.

Each returns a report that names every parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from harness.quantize.contract import QuantizeError, QuantizeReport

if TYPE_CHECKING:
    import torch

_EMBEDDERS: Final = tuple(f"time_text_embed.{name}_embedder.linear_{number}" for name in ("timestep", "guidance", "text")
                           for number in (1, 2))
KEPT_LAYERS: Final = ("conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2",
                      "add_embedding.linear_1", "add_embedding.linear_2",
                      "pos_embed.proj", "x_embedder", "context_embedder", "norm_out.linear", "proj_out", *_EMBEDDERS)
"""The first and last layers and the embeddings of time, guidance and pooled text, of U-Nets and of the transformers of SD3 and
Flux: every pixel depends on them, and they are few weights (0.2 % in Stable Diffusion 1)."""
ADAPTER_PARTS: Final = frozenset({"lora_A", "lora_B"})

_POLICY: Final = ("kept in float32: the first and last layers (conv_in, conv_out; x_embedder, proj_out ...) and the embeddings "
                  "of time, which are few weights that all pixels depend on, biases, norms and adapter factors")
_WAITS: Final = ("run eagerly on a GPU, torchao up to 0.18 waits for it before every product (pytorch/ao#4872), which can take "
                 "longer than the products; runtime='compiled' does not wait")
_CONVOLUTIONS: Final = "convolutions by Sweetspot's WeightOnlyConv2d, because torchao quantizes linear layers only"


def int8_weight_only(module: torch.nn.Module) -> QuantizeReport:
    """int8 weights with one scale per output row, float arithmetic."""
    notes = ("linear layers by torchao's Int8WeightOnlyConfig, int8 per output row", f"{_CONVOLUTIONS}: int8 per output "
             "channel, dequantized in each forward", _POLICY)
    return _quantize(module, 8, _torchao("Int8WeightOnlyConfig"), notes)


def int8_dynamic(module: torch.nn.Module) -> QuantizeReport:
    """int8 weights per output row and, in linear layers, int8 activations per token with scales taken on the fly."""
    notes = ("linear layers by torchao's Int8DynamicActivationInt8WeightConfig: int8 x int8 products, scales of the "
             "activations per token", f"{_CONVOLUTIONS}: int8 weights only, float activations", _WAITS, _POLICY)
    return _quantize(module, 8, _torchao("Int8DynamicActivationInt8WeightConfig"), notes)


def int4_weight_only(module: torch.nn.Module) -> QuantizeReport:
    """int4 weights packed two per byte, one float32 scale per group of at most 32 (see `layers.group_size`), float arithmetic: 5
    bits per weight."""
    notes = ("linear layers and convolutions by Sweetspot's own packed int4 layers, dequantized in each forward: torchao's int4 "
             "kernels need the package mslk, bfloat16 and a recent GPU", _groups(module),
             "smaller, not faster: the arithmetic stays in float", _POLICY)
    return _quantize(module, 4, None, notes)


def _groups(module: torch.nn.Module) -> str:
    """How many weights share a scale, and the layers where these are more than in the others."""
    from harness.quantize.layers import INT4_GROUP, group_size

    weights = {path: module.get_parameter(f"{path}.weight") for path in _chosen(module)}
    wide = [path for path, weight in weights.items() if group_size(weight[0].numel()) > INT4_GROUP]
    why = f"since no number from 8 to 32 divides its length, in {len(wide)} of {len(weights)} layers: {', '.join(wide)}"
    return f"one scale per group of at most {INT4_GROUP} weights" + (f", but one per whole row, {why}" if wide else "")


def _quantize(module: torch.nn.Module, bits: int, linear: Callable[[torch.nn.Module], None] | None,
              notes: tuple[str, ...]) -> QuantizeReport:
    """Replaces convolutions (and, without `linear`, linear layers) by own layers; `linear` quantizes one linear layer in place.
    Names are those of before."""
    from torch import nn

    from harness.quantize.layers import WeightOnlyConv2d, WeightOnlyLinear

    names = [name for name, _ in module.named_parameters()]
    chosen = _chosen(module)
    if not chosen:
        raise QuantizeError("no linear or convolution layer to quantize; give the U-Net itself")
    for path in chosen:
        # One by one: a whole model in float32 may not fit.
        layer = module.get_submodule(path).float()
        if isinstance(layer, nn.Conv2d):
            module.set_submodule(path, WeightOnlyConv2d(layer, bits))
        elif isinstance(layer, nn.Linear) and linear is None:
            module.set_submodule(path, WeightOnlyLinear(layer, bits))
        elif linear is not None:
            linear(layer)
    weights = {f"{path}.weight" for path in chosen}
    for name, parameter in module.named_parameters():
        if name not in weights:
            parameter.data = parameter.data.float()
    return QuantizeReport(quantized=tuple(name for name in names if name in weights),
                          kept=tuple(name for name in names if name not in weights), notes=notes)


def _chosen(module: torch.nn.Module) -> tuple[str, ...]:
    """Paths of the layers to quantize, in the module's order."""
    from torch import nn

    return tuple(path for path, layer in module.named_modules()
                 if isinstance(layer, nn.Linear | nn.Conv2d) and path
                 and path.removesuffix(".base_layer") not in KEPT_LAYERS
                 and not ADAPTER_PARTS.intersection(path.split(".")))


def _torchao(config: str) -> Callable[[torch.nn.Module], None]:
    def apply(layer: torch.nn.Module) -> None:
        try:
            import torchao.quantization as ao
        except ImportError as error:
            raise QuantizeError("this mode needs torchao (pip install torchao)") from error

        # Inductor's global settings stay as they are: eager runs do not use them, compiled ones choose their own.
        ao.quantize_(layer, getattr(ao, config)(set_inductor_config=False), filter_fn=lambda *_: True)

    return apply
