"""Declarations of what is done to a picture after it is decoded: colours, look-up tables, temperature, size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from harness.declare.normalise import settle

FIRST_STAGE: Final = "first stage"
"""As ColourTransfer's `to`: the picture of the candidate's first stage."""


@dataclass(frozen=True)
class ColourTransfer:
    """Gives a picture the colours of another, in CIE Lab. `to` is a picture file, or FIRST_STAGE. `method` is "reinhard" (mean
    and standard deviation of each channel) or "histogram" (the whole distribution). `strength` mixes with the picture as it
    was."""

    to: str
    method: str = field(default="reinhard", kw_only=True)
    strength: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True)
class Lut:
    """A colour look-up table in a .cube file, with linear interpolation. `strength` mixes with the picture as it was."""

    path: str
    strength: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Temperature:
    """Warms pictures whose correlated colour temperature is above `max_kelvin`, to that temperature. Others stay as they are."""

    max_kelvin: float

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Upscale:
    """Enlarges a picture by `factor`; `method` is "lanczos", "bicubic" or "nearest"."""

    factor: float
    method: str = "lanczos"

    def __post_init__(self) -> None:
        settle(self)


PostStep: TypeAlias = ColourTransfer | Lut | Temperature | Upscale
