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
    """Every parameter of the module in exactly one field, by its name before the change, and notes in words."""

    quantized: tuple[str, ...]
    kept: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class QuantizationMode:
    """A row of QUANTIZATION_MODES. `apply` changes a module in place; it then still takes and returns float32.

    `refused` maps a device type to the reason why the mode is not offered there, so that it is reported before anything is
    loaded; `lacks` says the same of one device ("cuda:0"), or gives an empty string. `version` is raised when the mode gives
    other values. `package` is the optional package that the mode needs.
    """

    apply: Callable[[torch.nn.Module], QuantizeReport]
    weight_bits: int
    version: int = 1
    refused: Mapping[str, str] = field(default_factory=dict)
    package: str = ""
    lacks: Callable[[str], str] = lambda _: ""

    def why_not(self, device: str) -> str:
        """The reason against this mode on a device such as "cuda:0", or an empty string."""
        return self.refused.get(device.partition(":")[0], "") or self.lacks(device)
