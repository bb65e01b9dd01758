"""The modes of the package sdnq: its codes in Sweetspot's own layers, whatever their size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.quantize.by_layer import quantize_all
from harness.quantize.contract import QuantizeReport

if TYPE_CHECKING:
    import torch


def sdnq_int8(module: torch.nn.Module, computing: str = "float32") -> QuantizeReport:
    """sdnq's int8: 8-bit integers, one float32 scale per group of a row, float arithmetic."""
    return quantize_all(module, "sdnq_int8", computing)


def sdnq_float8_e4m3fn(module: torch.nn.Module, computing: str = "float32") -> QuantizeReport:
    """sdnq's float8_e4m3fn: e4m3 values, one float32 scale per group of a row, float arithmetic."""
    return quantize_all(module, "sdnq_float8_e4m3fn", computing)


def sdnq_int6(module: torch.nn.Module, computing: str = "float32") -> QuantizeReport:
    """sdnq's int6: 6-bit integers, one float32 scale per group of a row, float arithmetic."""
    return quantize_all(module, "sdnq_int6", computing)


def sdnq_int5(module: torch.nn.Module, computing: str = "float32") -> QuantizeReport:
    """sdnq's int5: 5-bit integers, one float32 scale per group of a row, float arithmetic."""
    return quantize_all(module, "sdnq_int5", computing)


def sdnq_int4(module: torch.nn.Module, computing: str = "float32") -> QuantizeReport:
    """sdnq's int4: 4-bit integers, one float32 scale per group of a row, float arithmetic."""
    return quantize_all(module, "sdnq_int4", computing)


def sdnq_uint4(module: torch.nn.Module, computing: str = "float32") -> QuantizeReport:
    """sdnq's uint4: 4-bit integers, one float32 scale and zero point per group of a row, float arithmetic."""
    return quantize_all(module, "sdnq_uint4", computing)
