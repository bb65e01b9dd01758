"""The integer modes: which layers of a denoiser are quantized, by torchao or by this folder's own layers, and which are
kept.

Each returns a report that names every parameter. `computing` is the dtype ("float16") of activations and of the layers that are
kept. Integers and scales do not depend on it: they are made from float32, and scales stay in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from harness.declare.listing import first_of
from harness.quantize.cast import cast_at_border
from harness.quantize.contract import QuantizeError, QuantizeReport
from harness.records.format_range import FormatRangeError

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

_POLICY: Final = ("the first and last layers (conv_in, conv_out; x_embedder, proj_out ...) and the embeddings "
                  "of time, which are few weights that all pixels depend on, biases, norms and adapter factors")
_NO_SUMS: Final = ("torchao's layers sum integer products before they scale them, which leaves float16's range")
_WAITS: Final = ("run eagerly on a GPU, torchao up to 0.18 waits for it before every product (pytorch/ao#4872), which can take "
                 "longer than the products; runtime='compiled' does not wait")
_CONVOLUTIONS: Final = "convolutions by Sweetspot's WeightOnlyConv2d, because torchao quantizes linear layers only"


def int8_weight_only(module: torch.nn.Module, computing: str = "float32") -> QuantizeReport:
    """int8 weights with one scale per output row, float arithmetic."""
    linear, narrow = _torchao("Int8WeightOnlyConfig"), computing == "float16"
    before = (f"dequantized before the product: {_NO_SUMS}",) if narrow else ()
    return _quantize(module, 8, _as("DequantizingLinear", linear) if narrow else linear, computing, (
        "linear layers by torchao's Int8WeightOnlyConfig, int8 per output row", *before,
        f"{_CONVOLUTIONS}: int8 per output channel, dequantized in each forward"))


def int8_dynamic(module: torch.nn.Module, computing: str = "float32") -> QuantizeReport:
    """int8 weights per output row and, in linear layers, int8 activations per token with scales taken on the fly. The scaling of
    the integer products is in float32 whatever the module computes in."""
    linear = _torchao("Int8DynamicActivationInt8WeightConfig")
    scaling = () if computing == "float32" else (f"products are scaled in float32, layer by layer: {_NO_SUMS}",)
    return _quantize(module, 8, _as("LinearInFloat32", linear) if scaling else linear, computing, (
        "linear layers by torchao's Int8DynamicActivationInt8WeightConfig: int8 x int8 products, scales of the "
        "activations per token", *scaling, f"{_CONVOLUTIONS}: int8 weights only, float activations", _WAITS))


def int4_weight_only(module: torch.nn.Module, computing: str = "float32") -> QuantizeReport:
    """int4 weights packed two per byte, one float32 scale per group of at most 32 (see `layers.group_size`), float arithmetic: 5
    bits per weight."""
    return _quantize(module, 4, None, computing, (
        "linear layers and convolutions by Sweetspot's own packed int4 layers, dequantized in each forward: torchao's int4 "
        "kernels need the package mslk, bfloat16 and a recent GPU", _groups(module),
        "smaller, not faster: the arithmetic stays in float"))


def _groups(module: torch.nn.Module) -> str:
    """How many weights share a scale, and the layers where these are more than in the others."""
    from harness.quantize.layers import INT4_GROUP, group_size

    weights = {path: module.get_parameter(f"{path}.weight") for path in _chosen(module)}
    wide = [path for path, weight in weights.items() if group_size(weight[0].numel()) > INT4_GROUP]
    why = f"since no number from 8 to 32 divides its length, in {len(wide)} of {len(weights)} layers: {', '.join(wide)}"
    return f"one scale per group of at most {INT4_GROUP} weights" + (f", but one per whole row, {why}" if wide else "")


def _quantize(module: torch.nn.Module, bits: int, linear: Callable[[torch.nn.Module], None] | None, computing: str,
              notes: tuple[str, ...]) -> QuantizeReport:
    """Replaces convolutions (and, without `linear`, linear layers) by own layers; `linear` quantizes one linear layer in place.
    Names are those of before."""
    import torch
    from torch import nn

    from harness.quantize.layers import WeightOnlyConv2d, WeightOnlyLinear

    dtype: torch.dtype = getattr(torch, computing)
    names = [name for name, _ in module.named_parameters()]
    chosen = _chosen(module)
    if not chosen:
        raise QuantizeError("no linear or convolution layer to quantize; give the U-Net itself")
    for path in chosen:
        # One by one: a whole model in float32 may not fit.
        layer = module.get_submodule(path).float()
        if isinstance(layer, nn.Conv2d):
            module.set_submodule(path, WeightOnlyConv2d(layer, bits, dtype))
        elif isinstance(layer, nn.Linear) and linear is None:
            module.set_submodule(path, WeightOnlyLinear(layer, bits, dtype))
        elif linear is not None:
            linear(layer)
    weights = {f"{path}.weight" for path in chosen}
    kept = tuple(name for name in names if name not in weights)
    _narrow(module, kept, dtype)
    return QuantizeReport(quantized=tuple(name for name in names if name in weights), kept=kept,
                          notes=(*notes, f"kept in {computing}: {_POLICY}"))


def _narrow(module: torch.nn.Module, kept: tuple[str, ...], dtype: torch.dtype) -> None:
    """Makes the module compute in `dtype`: the parameters that are kept, buffers but for scales, and its border. Raises
    FormatRangeError for values beyond the dtype's range."""
    import torch

    from harness.quantize.layers import QuantizedWeight

    beyond = []
    for name in kept:
        parameter = module.get_parameter(name)
        narrow = parameter.data.to(dtype)
        if dtype == torch.float16 and not narrow.is_meta and not bool(torch.isfinite(narrow).all()):
            beyond.append(name)
        parameter.data = narrow
    if beyond:
        raise FormatRangeError(f"{len(beyond)} parameters hold values beyond the range of fp16, in which this candidate runs: "
                               f"{first_of([*map(repr, beyond)], 5)}. Declare precision='bf16' or 'fp32' for it")
    if dtype == torch.float32:
        return
    for layer in module.modules():
        for name, buffer in layer._buffers.items():
            if buffer is not None and buffer.is_floating_point() and not isinstance(layer, QuantizedWeight):
                layer._buffers[name] = buffer.to(dtype)
    cast_at_border(module, dtype)


def _chosen(module: torch.nn.Module) -> tuple[str, ...]:
    """Paths of the layers to quantize, in the module's order."""
    from torch import nn

    return tuple(path for path, layer in module.named_modules()
                 if isinstance(layer, nn.Linear | nn.Conv2d) and path
                 and path.removesuffix(".base_layer") not in KEPT_LAYERS
                 and not ADAPTER_PARTS.intersection(path.split(".")))


def _as(name: str, linear: Callable[[torch.nn.Module], None]) -> Callable[[torch.nn.Module], None]:
    """`linear`, after which the layer has another forward: that of a class in `layers`, which has the same tensors."""
    def apply(layer: torch.nn.Module) -> None:
        from harness.quantize import layers

        linear(layer)
        layer.__class__ = getattr(layers, name)

    return apply


def _torchao(config: str) -> Callable[[torch.nn.Module], None]:
    def apply(layer: torch.nn.Module) -> None:
        try:
            import torchao.quantization as ao
        except ImportError as error:
            raise QuantizeError("this mode needs torchao (pip install torchao)") from error

        # Inductor's global settings stay as they are: eager runs do not use them, compiled ones choose their own.
        ao.quantize_(layer, getattr(ao, config)(set_inductor_config=False), filter_fn=lambda *_: True)

    return apply
