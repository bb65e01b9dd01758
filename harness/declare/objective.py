"""What "best" means: the value to maximise, penalties, constraints, desirabilities and preferences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from harness.declare.normalise import settle

SIDES: Final = ("lowest", "highest", "middle")
"""What an objective may prefer on an axis."""
DESIRABILITY: Final = "desirability"
"""As an objective's `maximise`: the desirability of its `desirabilities`."""


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """Takes `weight` points off the objective per unit by which an image's `metric` exceeds `allowance`."""

    metric: str
    """The value."""
    weight: float
    """Points per unit."""
    allowance: float = 0.0
    """What costs nothing."""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A condition that a cell (candidate and guidance) must meet to be eligible: the mean of `metric` is at most, or at least, a
    limit. A cell is ruled out when its interval (95 %, corrected for the number of constraints and interim looks) lies wholly on
    the wrong side. Exactly one of the limits is given."""

    metric: str
    """The value."""
    at_most: float | None = None
    """The upper limit."""
    at_least: float | None = None
    """The lower limit."""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Desirability:
    """How desirable a value is, from 0 to 1: the share of the way from `worst` to `best`, to the power `shape`. Derringer and
    Suich, Journal of Quality Technology 12 (1980) 214."""

    metric: str
    """The value."""
    worst: float
    """Here and beyond it is 0."""
    best: float
    """Here and beyond it is 1. It may be the smaller of the two."""
    shape: float = 1.0
    """The power."""
    weight: float = 1.0
    """Its exponent in the geometric mean of several."""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What "best" means, per image: the value of `maximise` minus the penalties, among cells that keep the constraints.

    The default subtracts over- and under-exposed pixels, and dominant colours that differ from the prompt's usual one, from the
    CLIP score, because alignment scores alone keep rising with guidance while images burn out.
    """

    maximise: str = "clip_score"
    """The name of a value, or DESIRABILITY: 100 times the weighted geometric mean of the desirabilities of an image."""
    penalties: tuple[Penalty, ...] = (
        Penalty(metric="clipped_share", weight=100.0, allowance=0.05),
        Penalty(metric="palette_left", weight=5.0),
    )
    """What is subtracted; () for nothing."""
    constraints: tuple[Constraint, ...] = ()
    """What a candidate must keep at a guidance scale to compete."""
    desirabilities: tuple[Desirability, ...] = ()
    """What DESIRABILITY is made of."""
    prefer: Mapping[str, str] = field(default_factory=lambda: {"guidance": "lowest"})
    """Which of the settings that are tied with the best, and within one standard error of it, to take, by axis or "guidance":
    "lowest", "highest" or "middle" (the default, but of steps the fewest). {"alpha": "lowest"} stays as close to model A as the
    data allow."""

    def __post_init__(self) -> None:
        settle(self)
