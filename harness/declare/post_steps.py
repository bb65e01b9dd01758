"""Declarations of what is done to a picture after it is decoded: colours, look-up tables, temperature, size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from harness.declare.normalise import settle

FIRST_STAGE: Final = "first stage"
"""As ColourTransfer's `to`: the picture of the candidate's first stage."""


@dataclass(frozen=True)
class ColourTransfer:
    """Gives a picture the colours of another, in CIE Lab."""

    to: str
    """A picture file, or "first stage" for the picture of the candidate's first stage."""
    method: str = field(default="reinhard", kw_only=True)
    """"reinhard" (mean and standard deviation of each channel) or "histogram" (the whole distribution)."""
    strength: float = field(default=1.0, kw_only=True)
    """Mixes with the picture as it was."""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True)
class Lut:
    """A colour look-up table, with linear interpolation."""

    path: str
    """A .cube file with a table of one or three dimensions."""
    strength: float = field(default=1.0, kw_only=True)
    """Mixes with the picture as it was."""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Temperature:
    """Warms pictures whose correlated colour temperature is too high. Others stay as they are."""

    max_kelvin: float
    """The highest temperature, from 4000 to 25000 K. Neutral gray has 6504 K."""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Upscale:
    """Enlarges a picture."""

    factor: float
    """Of width and height; up to 8."""
    method: str = "lanczos"
    """"lanczos", "bicubic" or "nearest", by Pillow."""

    def __post_init__(self) -> None:
        settle(self)


PostStep: TypeAlias = ColourTransfer | Lut | Temperature | Upscale
