"""Linear layers that torchao quantizes, and what it needs around them in modules that compute in 16 bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from harness.quantize.cast import FP8_ON_CPU
from harness.quantize.contract import QuantizeError

if TYPE_CHECKING:
    import torch

_NO_SUMS: Final = ("torchao's layers sum integer products before they scale them, which leaves float16's range")
_WAITS: Final = ("run eagerly on a GPU, torchao up to 0.18 waits for it before every product (pytorch/ao#4872), which can take "
                 "longer than the products; runtime='compiled' does not wait")


@dataclass(frozen=True, kw_only=True)
class TorchaoLinear:
    """`layer`, by what the module computes in, quantizes a linear layer in place and returns whether it did; `notes` say how."""

    layer: Callable[[str], Callable[[torch.nn.Module], bool]]
    notes: Callable[[str], tuple[str, ...]]


def _int8(computing: str) -> Callable[[torch.nn.Module], bool]:
    return partial(_quantized, config="Int8WeightOnlyConfig", as_layer="DequantizingLinear" if computing == "float16" else "")


def _int8_notes(computing: str) -> tuple[str, ...]:
    before = (f"dequantized before the product: {_NO_SUMS}",) if computing == "float16" else ()
    return ("linear layers by torchao's Int8WeightOnlyConfig, int8 per output row", *before)


def _dynamic(computing: str) -> Callable[[torch.nn.Module], bool]:
    return partial(_quantized, config="Int8DynamicActivationInt8WeightConfig",
                   as_layer="" if computing == "float32" else "LinearInFloat32")


def _dynamic_notes(computing: str) -> tuple[str, ...]:
    scaling = () if computing == "float32" else (f"products are scaled in float32, layer by layer: {_NO_SUMS}",)
    return ("linear layers by torchao's Int8DynamicActivationInt8WeightConfig: int8 x int8 products, scales of the activations "
            "per token", *scaling, _WAITS)


def _float8(_: str) -> Callable[[torch.nn.Module], bool]:
    return _float8_layer


def _float8_layer(layer: torch.nn.Module) -> bool:
    # torchao leaves such layers as they are and says nothing.
    weight = layer.get_parameter("weight")
    if any(length % 16 for length in weight.shape):
        return False
    from torchao.quantization import PerRow

    try:
        # By row it takes bfloat16 alone.
        return _quantized(layer.bfloat16(), config="Float8DynamicActivationFloat8WeightConfig", as_layer="LinearInBfloat16",
                          granularity=PerRow())
    except AssertionError as error:
        raise QuantizeError(FP8_ON_CPU) from error


def _float8_notes(_: str) -> tuple[str, ...]:
    return ("linear layers by torchao's Float8DynamicActivationFloat8WeightConfig in bfloat16: e4m3 x e4m3 products, scales per "
            "output row and per token; those with a side that is not a multiple of 16 by Sweetspot's layers, e4m3 weights only",)


int8_weights: Final = TorchaoLinear(layer=_int8, notes=_int8_notes)
int8_activations: Final = TorchaoLinear(layer=_dynamic, notes=_dynamic_notes)
float8_dynamic: Final = TorchaoLinear(layer=_float8, notes=_float8_notes)


def _quantized(layer: torch.nn.Module, config: str, as_layer: str, **options: Any) -> bool:
    """Quantizes the layer; `as_layer` is the class in `layers` whose forward it then has."""
    try:
        import torchao.quantization as ao
    except ImportError as error:
        raise QuantizeError("this mode needs torchao (pip install torchao)") from error

    from harness.quantize import layers

    # Inductor's global settings stay as they are: eager runs do not use them, compiled ones choose their own.
    ao.quantize_(layer, getattr(ao, config)(set_inductor_config=False, **options), filter_fn=lambda *_: True)
    if as_layer:
        layer.__class__ = getattr(layers, as_layer)
    return True
