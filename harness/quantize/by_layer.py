"""The modes that quantize layer by layer: which layers of a component they take and which are kept, and how one is stored.

Each returns a report that names every parameter. `computing` is the dtype ("float16") of activations and of the layers that are
kept. Codes and scales do not depend on it: they are made from float32, and scales stay in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from harness.declare.listing import first_of
from harness.quantize.cast import cast_at_border
from harness.quantize.contract import QuantizeError, QuantizeReport
from harness.quantize.sdnq_codes import SDNQ_TYPES, group_lengths
from harness.quantize.torchao_layers import float8_dynamic, int8_activations, int8_weights
from harness.records.format_range import FormatRangeError

if TYPE_CHECKING:
    import torch

    OneLayer = Callable[[torch.nn.Module], bool]

_EMBEDDERS: Final = tuple(f"time_text_embed.{name}_embedder.linear_{number}" for name in ("timestep", "guidance", "text")
                           for number in (1, 2))
KEPT_LAYERS: Final = ("conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2",
                      "add_embedding.linear_1", "add_embedding.linear_2",
                      "pos_embed.proj", "x_embedder", "context_embedder", "norm_out.linear", "proj_out", *_EMBEDDERS,
                      "encoder.conv_in", "encoder.conv_out", "decoder.conv_in", "decoder.conv_out", "quant_conv",
                      "post_quant_conv", "text_projection")
"""The first and last layers and the embeddings of time, guidance and pooled text, of U-Nets, of the transformers of SD3 and Flux,
of VAEs and of text encoders: every pixel depends on them, and they are few weights (0.2 % in Stable Diffusion 1)."""
ADAPTER_PARTS: Final = frozenset({"lora_A", "lora_B"})

_POLICY: Final = ("the first and last layers (conv_in, conv_out; x_embedder, proj_out ...) and the embeddings "
                  "of time, which are few weights that all pixels depend on, biases, norms and adapter factors")
_CONVOLUTIONS: Final = "convolutions by Sweetspot's WeightOnlyConv2d, because torchao quantizes linear layers only"
_OWN: Final = "linear layers and convolutions by Sweetspot's own layers, dequantized in each forward"
_NAMED: Final = 6
_FLOAT: Final = "smaller, not faster: the arithmetic stays in float"


@dataclass(frozen=True, kw_only=True)
class LayerMode:
    """How a mode stores a layer: in a format of `formats.FORMATS`, or, for linear layers, as `linear` leaves it, which gets what
    the module computes in. `notes` are for the page."""

    stored_as: str
    notes: tuple[str, ...]
    linear: Callable[[str], OneLayer] | None = None
    keeps_convolutions: str = ""
    """Why convolutions are kept, in words; "" if they are quantized."""
    notes_in: Callable[[str], tuple[str, ...]] = lambda _: ()


LAYER_MODES: Final[Mapping[str, LayerMode]] = {
    "int8_weight_only": LayerMode(stored_as="int8", linear=int8_weights.layer, notes_in=int8_weights.notes, notes=(
        f"{_CONVOLUTIONS}: int8 per output channel, dequantized in each forward",)),
    "int8_dynamic": LayerMode(stored_as="int8", linear=int8_activations.layer, notes_in=int8_activations.notes, notes=(
        f"{_CONVOLUTIONS}: int8 weights only, float activations",)),
    "int4_weight_only": LayerMode(stored_as="int4", notes=(
        "linear layers and convolutions by Sweetspot's own packed int4 layers, dequantized in each forward: torchao's int4 "
        "kernels need the package mslk, bfloat16 and a recent GPU", _FLOAT)),
    "fp8_weight_only": LayerMode(stored_as="fp8", notes=(
        f"{_OWN}: e4m3 with one float32 scale per output row, max|w| / 448", _FLOAT)),
    "fp8_dynamic": LayerMode(stored_as="fp8", linear=float8_dynamic.layer, notes_in=float8_dynamic.notes, notes=(
        f"{_CONVOLUTIONS}: e4m3 weights only, float activations",)),
    "fp8_scaled": LayerMode(stored_as="fp8_scaled", keeps_convolutions="ComfyUI reads no scale of a convolution", notes=(
        "linear layers by Sweetspot's own layers, dequantized in each forward: e4m3 with one float32 scale max|w| / 448 per "
        "layer, as ComfyUI's scaled fp8 files have them", _FLOAT)),
    "nf4": LayerMode(stored_as="nf4", notes=(
        f"{_OWN}: bitsandbytes' nf4, one float32 scale per block of 64 of the flat weight, which may go on in the next row",
        _FLOAT)),
    **{f"gguf_{name.lower()}": LayerMode(stored_as=name, notes=(
        f"{_OWN}: GGUF's {name}, blocks of 32 of the flat weight, which are those of its rows where these are whole blocks",
        _FLOAT)) for name in ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")},
    **{f"sdnq_{kind}": LayerMode(stored_as=f"sdnq_{kind}", notes=(
        f"{_OWN}: {kind} by the package sdnq, one float32 scale{' and zero point' if kind.startswith('u') else ''} per group of "
        f"at most {group_lengths(kind)[0]} weights of a row, in convolutions of {group_lengths(kind)[1]} channels at one place "
        "of the kernel",
        "unlike by sdnq itself, which leaves convolutions and layers of less than 16384 weights as they are, all layers are "
        "quantized that other modes quantize", _FLOAT)) for kind in SDNQ_TYPES}}
"""By mode."""


def int8_weight_only(module: torch.nn.Module, computing: str = "float32") -> QuantizeReport:
    """int8 weights with one scale per output row, float arithmetic."""
    return quantize_all(module, "int8_weight_only", computing)


def int8_dynamic(module: torch.nn.Module, computing: str = "float32") -> QuantizeReport:
    """int8 weights per output row and, in linear layers, int8 activations per token with scales taken on the fly. The scaling of
    the integer products is in float32 whatever the module computes in."""
    return quantize_all(module, "int8_dynamic", computing)


def int4_weight_only(module: torch.nn.Module, computing: str = "float32") -> QuantizeReport:
    """int4 weights packed two per byte, one float32 scale per group of at most 32 (see `formats.group_size`), float arithmetic: 5
    bits per weight."""
    return quantize_all(module, "int4_weight_only", computing)


def fp8_weight_only(module: torch.nn.Module, computing: str = "float32") -> QuantizeReport:
    """e4m3 weights (4 exponent and 3 fraction bits) with one float32 scale max|w| / 448 per output row, float arithmetic."""
    return quantize_all(module, "fp8_weight_only", computing)


def fp8_scaled(module: torch.nn.Module, computing: str = "float32") -> QuantizeReport:
    """e4m3 weights of linear layers with one float32 scale max|w| / 448 per layer, as in ComfyUI's scaled fp8 files, float
    arithmetic; convolutions are kept."""
    return quantize_all(module, "fp8_scaled", computing)


def fp8_dynamic(module: torch.nn.Module, computing: str = "float32") -> QuantizeReport:
    """e4m3 weights per output row and, in linear layers, e4m3 activations per token with scales taken on the fly; convolutions as
    in fp8_weight_only."""
    return quantize_all(module, "fp8_dynamic", computing)


def nf4(module: torch.nn.Module, computing: str = "float32") -> QuantizeReport:
    """Sixteen quantiles of a normal distribution, one float32 scale per block of 64, float arithmetic: the bits of
    bitsandbytes."""
    return quantize_all(module, "nf4", computing)


def gguf_q8_0(module: torch.nn.Module, computing: str = "float32") -> QuantizeReport:
    """GGUF's Q8_0: int8 codes, one float16 scale per block of 32, float arithmetic."""
    return quantize_all(module, "gguf_q8_0", computing)


def gguf_q5_1(module: torch.nn.Module, computing: str = "float32") -> QuantizeReport:
    """GGUF's Q5_1: 5-bit codes, one float16 scale and minimum per block of 32, float arithmetic."""
    return quantize_all(module, "gguf_q5_1", computing)


def gguf_q5_0(module: torch.nn.Module, computing: str = "float32") -> QuantizeReport:
    """GGUF's Q5_0: 5-bit codes, one float16 scale per block of 32, float arithmetic."""
    return quantize_all(module, "gguf_q5_0", computing)


def gguf_q4_1(module: torch.nn.Module, computing: str = "float32") -> QuantizeReport:
    """GGUF's Q4_1: 4-bit codes, one float16 scale and minimum per block of 32, float arithmetic."""
    return quantize_all(module, "gguf_q4_1", computing)


def gguf_q4_0(module: torch.nn.Module, computing: str = "float32") -> QuantizeReport:
    """GGUF's Q4_0: 4-bit codes, one float16 scale per block of 32, float arithmetic."""
    return quantize_all(module, "gguf_q4_0", computing)


def quantize_all(module: torch.nn.Module, mode: str, computing: str) -> QuantizeReport:
    """Quantizes every layer that modes quantize by one of LAYER_MODES, as `quantize_layers`."""
    return quantize_layers(module, dict.fromkeys(quantizable(module), mode), computing)


def quantizable(module: torch.nn.Module) -> tuple[str, ...]:
    """The paths of the layers that modes quantize, in the module's order."""
    from torch import nn

    return tuple(path for path, layer in module.named_modules()
                 if isinstance(layer, nn.Linear | nn.Conv2d) and path
                 and path.removesuffix(".base_layer") not in KEPT_LAYERS
                 and not ADAPTER_PARTS.intersection(path.split(".")))


def quantize_layers(module: torch.nn.Module, modes: Mapping[str, str], computing: str) -> QuantizeReport:
    """Quantizes the layers of these paths, each by its mode, and makes the module compute in a dtype ("float16").

    Raises QuantizeError where nothing is quantized, and FormatRangeError for kept values beyond the dtype's range. Names are
    those of before.
    """
    import torch

    dtype: torch.dtype = getattr(torch, computing)
    names = [name for name, _ in module.named_parameters()]
    refused = {path: reason for path, mode in modes.items() if (reason := _refusal(module, path, mode))}
    quantized = {path: mode for path, mode in modes.items() if path not in refused}
    if not quantized:
        why = f": {next(iter(refused))}: {next(iter(refused.values()))}" if refused else "; give the U-Net itself"
        raise QuantizeError(f"no linear or convolution layer to quantize{why}")
    notes = [note for mode in dict.fromkeys(quantized.values()) for note in _notes(module, mode, quantized, computing)]
    for path, mode in quantized.items():
        # One by one: a whole model in float32 may not fit.
        _replace(module, path, mode, dtype, computing)
    weights = {f"{path}.weight" for path in quantized}
    kept = tuple(name for name in names if name not in weights)
    _narrow(module, kept, dtype)
    notes += [f"kept, as {reason}: {', '.join(path for path, other in refused.items() if other == reason)}"
              for reason in dict.fromkeys(refused.values())]
    return QuantizeReport(quantized=tuple(name for name in names if name in weights), kept=kept,
                          notes=(*notes, f"kept in {computing}: {_POLICY}"),
                          by_mode={mode: tuple(f"{path}.weight" for path, other in quantized.items() if other == mode)
                                   for mode in dict.fromkeys(quantized.values())})


def _refusal(module: torch.nn.Module, path: str, mode: str) -> str:
    from harness.quantize.formats import FORMATS

    row, shape = LAYER_MODES[mode], tuple(module.get_parameter(f"{path}.weight").shape)
    return row.keeps_convolutions if row.keeps_convolutions and len(shape) > 2 else FORMATS[row.stored_as].refuses(shape)


def _notes(module: torch.nn.Module, mode: str, modes: Mapping[str, str], computing: str) -> list[str]:
    row = LAYER_MODES[mode]
    paths = [path for path, other in modes.items() if other == mode]
    notes = [*row.notes_in(computing), *row.notes, *([_groups(module, paths)] if row.stored_as == "int4" else [])]
    if len(set(modes.values())) == 1:
        return notes
    return [f"{mode}: {len(paths)} of {len(modes)} layers: {first_of(paths, _NAMED)}", *(f"{mode}: {note}" for note in notes)]


def _groups(module: torch.nn.Module, paths: list[str]) -> str:
    """How many weights share a scale, and the layers where these are more than in the others."""
    from harness.quantize.formats import INT4_GROUP, group_size

    weights = {path: module.get_parameter(f"{path}.weight") for path in paths}
    wide = [path for path, weight in weights.items() if group_size(weight[0].numel()) > INT4_GROUP]
    why = f"since no number from 8 to 32 divides its length, in {len(wide)} of {len(weights)} layers: {', '.join(wide)}"
    return f"one scale per group of at most {INT4_GROUP} weights" + (f", but one per whole row, {why}" if wide else "")


def _replace(module: torch.nn.Module, path: str, mode: str, dtype: torch.dtype, computing: str) -> None:
    """Puts a layer of the mode in the place of a layer."""
    from torch import nn

    from harness.quantize.layers import WeightOnlyConv2d, WeightOnlyLinear

    row, layer = LAYER_MODES[mode], module.get_submodule(path).float()
    if isinstance(layer, nn.Conv2d):
        own: WeightOnlyConv2d | WeightOnlyLinear = WeightOnlyConv2d(layer, row.stored_as, dtype)
    elif row.linear is not None and row.linear(computing)(layer):
        return
    else:
        assert isinstance(layer, nn.Linear)
        own = WeightOnlyLinear(layer, row.stored_as, dtype)
    if not own.quantized.finite:
        raise QuantizeError(f"{path}.weight holds values beyond the range of {mode}; choose another mode, or repair the model")
    module.set_submodule(path, own)


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
