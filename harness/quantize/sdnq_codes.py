"""Weights in the number types of the package sdnq, encoded and decoded by its functions. They are imported late, and without what
the import does to the process."""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any, Final

from harness.quantize.contract import QuantizeError

if TYPE_CHECKING:
    import torch

PACKAGE: Final = "sdnq"
SDNQ_TYPES: Final[Mapping[str, int]] = {"int8": 1, "float8_e4m3fn": 1, "int6": 4, "int5": 8, "int4": 2, "uint4": 2}
"""By sdnq's name of a type: how many codes it packs together, so that a weight is a multiple of them."""
BITS: Final[Mapping[str, int]] = {"int8": 8, "float8_e4m3fn": 8, "int6": 6, "int5": 5, "int4": 4, "uint4": 4}
_INSTALL: Final = "pip install 'sweetspot[sdnq]'"
_QUIET: Final = {"SDNQ_USE_TORCH_COMPILE": "0", "SDNQ_DEVICE": "cpu", "SDNQ_USE_OPENVINO_MM": "0", "SDNQ_USE_TRITON_MM": "0",
                 "SDNQ_REGISTER_TRANSFORMERS": "0", "SDNQ_REGISTER_DIFFUSERS": "0"}
"""Variables with which the import compiles nothing, changes no setting of torch.compile, opens no GPU, loads no kernels and
registers no quantizer."""
_LOCK: Final = threading.Lock()


def without_sdnq(_: str) -> str:
    """Why no device has the modes of sdnq, or an empty string."""
    return "" if importlib.util.find_spec(PACKAGE) else f"the package sdnq is not installed; install it with: {_INSTALL}"


def group_lengths(kind: str) -> tuple[int, int]:
    """The most weights of a linear layer's row, and the most channels of a convolution, that share a scale: sdnq's own choice."""
    return 2 ** (BITS[kind] + 2), 2 ** (BITS[kind] + 1)


def no_packs(kind: str, shape: tuple[int, ...]) -> str:
    """Why a weight of this shape cannot be packed, or an empty string."""
    together = SDNQ_TYPES[kind]
    return f"{prod(shape)} weights are not whole packs of {together}" if prod(shape) % together else ""


def sdnq_encoded(kind: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """The parts of a float32 weight, of a linear layer (out, in) or a convolution (out, in, height, width), in a type of sdnq:
    packed values, float32 scales and, for unsigned types, float32 zero points. Groups are sdnq's own. Raises QuantizeError
    without the package."""
    _, parts = _quantize()(weight, layer_class_name="Linear" if weight.ndim == 2 else "Conv2d", weights_dtype=kind)
    names = {"weight": "values", "scale": "scales", "zero_point": "zero_points"}
    return {own: parts[name] for name, own in names.items() if parts[name] is not None}


def sdnq_decoded(kind: str, parts: Mapping[str, torch.Tensor], shape: tuple[int, ...]) -> torch.Tensor:
    """The float32 weight of these parts: (code + zero point / scale) * scale of its group, in sdnq's own arithmetic."""
    from sdnq.dequantizer import dequantize_weight  # imported already by whatever encoded the parts

    scales = parts["scales"]
    grouped = scales.ndim > len(shape)
    stored = (shape[0], scales.shape[1], shape[1] // scales.shape[1], *shape[2:]) if grouped else shape
    weight: torch.Tensor = dequantize_weight(
        kind, parts["values"], scales, zero_point=parts.get("zero_points"), dtype=scales.dtype, result_shape=shape,
        quantized_weight_shape=stored)
    return weight


@cache
def _quantize() -> Callable[..., Any]:
    with _LOCK, _as_if_not_imported():
        try:
            from sdnq.quantizer import sdnq_quantize_layer_weight
        except ImportError as error:
            raise QuantizeError(f"this mode needs a package sdnq that can be imported ({error}); install it with: {_INSTALL}"
                                ) from error
    quantize: Callable[..., Any] = sdnq_quantize_layer_weight
    return quantize


@contextmanager
def _as_if_not_imported() -> Iterator[None]:
    """Within the block the import leaves torch.compile alone, and afterwards torch.load trusts no classes that it did not before:
    sdnq has those of its layers trusted wherever files are read."""
    import torch

    quieted = logging.root.manager.disable
    before = {name: os.environ.get(name) for name in _QUIET}
    trusted = torch.serialization.get_safe_globals()
    os.environ.update(_QUIET)
    logging.disable(logging.WARNING)  # of the other quantizers that transformers and diffusers then import
    try:
        yield
    finally:
        logging.disable(quieted)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        added = [one for one in torch.serialization.get_safe_globals() if one not in trusted]
        if foreign := [one for one in added if str(getattr(one, "__module__", "")).partition(".")[0] == PACKAGE]:
            torch.serialization.clear_safe_globals()
            torch.serialization.add_safe_globals([*trusted, *(one for one in added if one not in foreign)])
