"""How many prompts would decide what an interval leaves open, if the mean and the spread of prompts are as measured. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import nct, norm
from scipy.stats import t as student_t

from harness.records import ValueSpec
from reports.statistics.intervals import Estimate
from reports.statistics.margin_size import reach, wilson_widening

Floats = NDArray[np.float64]

CHANCE: Final = 0.8
"""How often so many prompts decide."""
FEWEST: Final = 4
"""Prompts from which a spread is estimated: that of three is wrong by a factor of three too often for a number that goes with its
square."""
FURTHEST: Final = 30
"""Times the prompts that are there: a difference that would need more is about half of its standard error, or less."""
MOST: Final = 10_000
STEPS: Final = 64
ROUNDS: Final = 40


@dataclass(frozen=True, kw_only=True)
class JointTest:
    """How the cells of a run were tested together (see tied_set.from_best): the `limit` of the tied ones in standard errors, the
    `level` of the family, the prompts, and how many of these the variance that they have in common is worth."""

    limit: float
    level: float
    prompts: int
    prior: float


@dataclass(frozen=True, kw_only=True)
class Needed:
    """`prompts` that would decide what `there` prompts leave open: at least one more, and None beyond `most` of them, or where
    nothing can be said of so few (`sayable` is False)."""

    there: int
    prompts: int | None = None
    sayable: bool = True

    @property
    def most(self) -> int:
        """The largest number that is given."""
        return max(self.there, min(FURTHEST * self.there, MOST))


def prompts_to_settle(of: Estimate, limit: float = 0.0, share: ValueSpec | None = None) -> Needed | None:
    """The fewest prompts n of which the interval of `of`, at its own level, lies on one side of `limit` with a probability of
    CHANCE, if its mean m and the SD of prompts s are the true ones. None without an interval, and where prompts do not differ.

    A t interval does so when |mean - limit| > q_n s / sqrt(n), q_n the quantile of Student's t with n - 1 degrees of freedom:
    P(T > q_n) for T noncentral t with noncentrality |m - limit| sqrt(n) / s. `share` is the value of a mean with Wilson's
    interval (see intervals.wilson), which excludes a limit L where |mean - L| > q_n error sqrt(L (1 - L) / (m (1 - m))).
    """
    if of.mean is None or of.low is None or of.error is None:
        return None
    wide = share is not None and share.bounded_share and 0 <= of.mean <= 1
    if wide and share is not None and of.mean in (0.0, 1.0):
        return _of_flags(of, limit) if share.kind == "flag" else None
    if not of.error:
        return None
    widening = wilson_widening(of.mean, limit) if wide else 1.0
    spread, distance = of.error * math.sqrt(of.prompts), abs(of.mean - limit)

    def enough(prompts: int) -> bool:
        quantile = widening * float(student_t.ppf((1 + of.level) / 2, prompts - 1))
        return reach(distance * math.sqrt(prompts) / spread, prompts - 1, quantile) >= CHANCE

    return fewest(enough, of.prompts)


def prompts_to_leave_out(distance: Floats, error: Floats, family: JointTest) -> list[Needed]:
    """As `prompts_to_settle`, of cells that are `distance` (C,) from the best one, with standard errors `error` (C,), where all
    are tested together.

    A cell is left out where it is further than the limit of those that are still tested, which falls with more prompts and fewer
    cells: that of m cells is taken for the quantile of Student's t at a tail of which the logarithm goes with that of the number
    of pairs, from (1 - level) / 2 for two cells to what it is now for all. For a cell m counts it, the best, and of each other
    one that is left out with probability p at the same number of prompts 1 - p^2.
    """
    there = family.prompts
    if there < FEWEST:
        return [Needed(there=there, sayable=False)] * len(distance)
    most = Needed(there=there).most
    steps = np.unique(np.geomspace(min(there + 1, most), most, STEPS).astype(int))
    reached = np.array([_left_out(distance / error * math.sqrt(n / there), int(n), family) for n in steps]) >= CHANCE
    return [Needed(there=there, prompts=max(there + 1, int(steps[column.argmax()])) if column.any() else None)
            for column in reached.T]


def _left_out(apart: Floats, prompts: int, family: JointTest) -> Floats:
    """How often each cell, so many standard errors from the best, is left out with so many prompts; (C,)."""
    cells, tail = len(apart) + 1, float(student_t.sf(family.limit, family.prompts - 1 + family.prior))
    two, all_pairs = math.log((1 - family.level) / 2), math.log(cells * (cells - 1) / 2)
    degrees, chance = prompts - 1 + family.prior, np.zeros(len(apart))
    for _ in range(ROUNDS):
        tested = 2 + (1 - chance**2).sum() - (1 - chance**2)
        share = np.log(tested * (tested - 1) / 2) / all_pairs if all_pairs else np.ones(len(apart))
        quantile = student_t.isf(np.exp((1 - share) * two + share * math.log(tail)), degrees)
        before, chance = chance, np.asarray(nct.sf(quantile, degrees, apart), dtype=np.float64)
        if np.abs(chance - before).max() < 0.005:
            break
    return chance


def fewest(enough: Callable[[int], bool], there: int) -> Needed:
    """The fewest prompts, more than are there, that are `enough`; more prompts must never be less so."""
    needed = Needed(there=there)
    if there < FEWEST:
        return Needed(there=there, sayable=False)
    low, high = there, needed.most
    if high <= low or not enough(high):
        return needed
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return Needed(there=there, prompts=high)


def _of_flags(of: Estimate, limit: float) -> Needed | None:
    """Of flags that all images have, or none: Wilson's interval of n images ends at q^2 / (n + q^2) from them, q the normal
    quantile. None for a limit that is at the mean itself, which no number of images leaves behind."""
    apart = abs((of.mean or 0.0) - limit)
    if not 0 < apart <= 1:
        return None
    images = float(norm.ppf((1 + of.level) / 2)) ** 2 * (1 - apart) / apart
    return fewest(lambda prompts: prompts * of.pairs / of.prompts >= images, of.prompts)
