"""What a quantization mode is and what it reports.

The table lists modes; the harness turns reports into coverage records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class QuantizeError(ValueError):
    """A mode that cannot be used on this module or device; the message says why and what to use instead."""


@dataclass(frozen=True, kw_only=True)
class QuantizeReport:
    """Every parameter of the module in exactly one field, by its name before the change."""

    quantized: tuple[str, ...]
    """The parameters that were quantized."""
    kept: tuple[str, ...]
    """The parameters that were not."""
    notes: tuple[str, ...] = ()
    """Sentences for the page."""
    by_mode: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of the quantized ones, those of each mode, where single layers have modes."""


@dataclass(frozen=True, kw_only=True)
class QuantizationMode:
    """A row of QUANTIZATION_MODES."""

    apply: Callable[[torch.nn.Module], QuantizeReport]
    """Changes a module in place, which then still takes and returns float32."""
    weight_bits: float
    """Bits of a quantized weight; of the GGUF formats and of nf4 with the scales of their blocks, of sdnq's short
    types with those of linear layers."""
    version: int = 1
    """Increases when the mode gives other values."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """By the type of a device, why the mode is not offered there; it is reported before anything is loaded."""
    package: str = ""
    """The optional package that the mode needs."""
    values_of: str = ""
    """The package whose functions decide the values of quantized weights: its version is part of what a candidate is."""
    lacks: Callable[[str], str] = lambda _: ""
    """What one device ("cuda:0") lacks; empty if nothing."""

    def why_not(self, device: str) -> str:
        """The reason against this mode on a device such as "cuda:0", or an empty string."""
        return self.refused.get(device.partition(":")[0], "") or self.lacks(device)
