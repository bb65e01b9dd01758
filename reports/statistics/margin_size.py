"""What difference equal things show: from a baseline sampled and timed twice, the margin that each gate of a suite needs. Pure
maths on tables and arrays."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import nct
from scipy.stats import t as student_t

from reports.statistics.intervals import CLUSTER, LEVEL, clustered

CONFIDENCE: Final = 0.95
POWER: Final = 0.9
MOST_PROMPTS: Final = 100_000
DRAWS: Final = 4000
"""Of the bootstrap of timed rounds."""
_WIDEST: Final = 1e4
"""Standard errors beyond which no margin is looked for."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How much means of a value differ though nothing does: the SDs from prompt to prompt (`prompt`) and from image to image of
    one prompt (`image`), in the value's unit, of one paired difference, or of the value itself where a gate holds it against
    a number. `prompts` and `pairs` are those behind the estimate, `source` says where it is from."""

    prompt: float
    image: float
    prompts: int
    pairs: int
    source: str

    def error(self, prompts: int, seeds: int) -> float:
        """The standard error of a mean over so many prompts with so many images each: sqrt((prompt^2 + image^2 / S) / P)."""
        return math.sqrt((self.prompt**2 + self.image**2 / seeds) / prompts)


@dataclass(frozen=True, kw_only=True)
class Design:
    """What a gate looks at: so many prompts, seeds for each, and the level of its interval."""

    prompts: int
    seeds: int
    level: float = LEVEL


def again(images: pd.DataFrame, value: str, ratio: float = 1.0) -> Spread | None:
    """The spread of mine - ratio x other's between two samplings of one candidate that share prompts and no seed.

    `images` has the columns prompt, seed and `value`, at one guidance. With s^2 the variance within prompts (their mean, NaN
    dropped, prompts with one image left out) and p^2 that between them (see `itself`), image = sqrt((1 + ratio^2) s^2), and
    prompt = |1 - ratio| p, which is 0 for a difference: the candidate is the same. None without two images of any prompt.
    """
    within, prompts, rows = _within(images, value)
    if within is None:
        return None
    between = itself(images, value) if ratio != 1 else None
    return Spread(prompt=abs(1 - ratio) * between.prompt if between else 0.0, image=math.sqrt((1 + ratio**2) * within),
                  prompts=prompts, pairs=rows // 2, source="A/A, other seeds")


def itself(images: pd.DataFrame, value: str) -> Spread | None:
    """The spread of the value itself, for limits that are numbers: `prompt` is the SD of prompt means beyond what their images
    explain (analysis of variance; 0 where that is negative), `image` the SD within prompts. None as in `again`."""
    within, prompts, rows = _within(images, value)
    if within is None or prompts < 2:
        return None
    groups: Any = clustered(images).dropna(subset=[value]).groupby(CLUSTER)[value]
    between = float(groups.mean().var(ddof=1)) - within / float(groups.size().mean())
    return Spread(prompt=math.sqrt(max(0.0, between)), image=math.sqrt(within), prompts=prompts, pairs=rows,
                  source="the baseline's images")


def tied_pairs(images: pd.DataFrame, cells: Sequence[tuple[str, float]], value: str, ratio: float = 1.0) -> Spread | None:
    """The spread of mine - ratio x other's, paired by prompt and seed, between cells, (candidate, guidance), that are tied.

    The variances of all pairs of `cells` of one guidance are averaged (of all pairs, where no two share theirs), of a ratio in
    both directions; that of prompts is the variance of prompt means less what their images explain. With one seed for each
    prompt the two cannot be separated, and all of it counts as that of prompts. None with fewer than two cells or two prompts.
    """
    wide = clustered(images).pivot_table(index=[CLUSTER, "prompt", "seed"], columns=["candidate", "guidance"], values=value,
                                         sort=True)
    here = [cell for cell in cells if cell in wide.columns]
    pairs = list(itertools.combinations(here, 2))
    within, between, size, prompts = [], [], 0, 0
    pairs = [pair for pair in pairs if pair[0][1] == pair[1][1]] or pairs
    directions = [*pairs, *((other, one) for one, other in pairs)] if ratio != 1 else pairs
    for one, other in directions:
        groups: Any = (wide[one] - ratio * wide[other]).dropna().groupby(level=CLUSTER)
        counts = groups.size()
        if len(counts) < 2:
            continue
        within.append(float(groups.var(ddof=1).mean()) if counts.max() > 1 else 0.0)
        between.append(float(groups.mean().var(ddof=1)) - within[-1] / float(counts.mean()))
        size, prompts = int(counts.sum()), len(counts)
    if not within:
        return None
    count = len(within) * len(pairs) // len(directions)
    return Spread(prompt=math.sqrt(max(0.0, float(np.mean(between)))), image=math.sqrt(float(np.mean(within))), prompts=prompts,
                  pairs=size, source=f"{count} {'pair' if count == 1 else 'pairs'} of tied cells, same seeds")


def pass_rate(margin: float, spread: Spread, of: Design, widening: float = 1.0) -> float:
    """How often a candidate that is equal in truth passes "not worse by more than `margin`", for normal differences.

    The gate passes when mean - t e >= -margin, with e the estimated standard error and t the quantile of P - 1 degrees of
    freedom. With the true error E that is P(T >= t) for T noncentral t with noncentrality margin / E. Lehmann and Romano,
    Testing Statistical Hypotheses (2005), section 5.2. 1 where nothing varies and the margin is not negative. `widening` is
    that of t where the interval is another one (see `wilson_widening`).
    """
    error = spread.error(of.prompts, of.seeds)
    if error == 0:
        return float(margin >= 0)
    return reach(margin / error, _degrees(of), widening * _quantile(of))


def wilson_widening(mean: float, limit: float) -> float:
    """How many times t its quantile must be for Wilson's interval of a share to leave `limit` behind: the error at the limit over
    the one at the mean, sqrt(L (1 - L) / (m (1 - m))). 1 for a mean without an error of its own, 0 or 1."""
    return math.sqrt(max(0.0, limit * (1 - limit)) / (mean * (1 - mean))) if 0 < mean < 1 else 1.0


def smallest_that(enough: Callable[[float], bool], most: float) -> float | None:
    """The smallest number, to one part in 2^40 of `most`, from which on `enough` holds; None where not even `most` is."""
    if not enough(most):
        return None
    low, high = 0.0, most
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def reach(distance: float, degrees: float, quantile: float) -> float:
    """P(T >= quantile) for T noncentral t with so many degrees of freedom and the noncentrality `distance`: how often a mean that
    is `distance` standard errors from a limit has an interval of mean +- quantile x estimated error on its side of it."""
    return float(nct.sf(quantile, degrees, distance))


def smallest_margin(spread: Spread, of: Design, confidence: float = CONFIDENCE) -> float:
    """The margin that an equal candidate passes with probability `confidence`, in the value's unit: d E, with d the noncentrality
    at which `pass_rate` is `confidence`. ValueError for fewer than two prompts, which have no interval."""
    return _distance(of, confidence) * spread.error(of.prompts, of.seeds)


def failing_drop(margin: float, spread: Spread, of: Design, power: float = POWER) -> float:
    """The true drop that the gate fails, and does not leave inconclusive, with probability `power`: margin + d E, since what is
    seen of a drop of margin + x lies as far beyond the margin as an equal candidate lies within a margin of x."""
    return margin + _distance(of, power) * spread.error(of.prompts, of.seeds)


def prompts_needed(margin: float, spread: Spread, of: Design, confidence: float = CONFIDENCE,
                   widening: float = 1.0) -> int | None:
    """The fewest prompts, with the same seeds each, with which an equal candidate passes `margin` with probability `confidence`;
    None for a margin that no number of prompts makes pass (0), or more than MOST_PROMPTS do."""
    def enough(prompts: int) -> bool:
        return pass_rate(margin, spread, Design(prompts=prompts, seeds=of.seeds, level=of.level), widening) >= confidence

    if (margin <= 0 and spread.error(2, of.seeds) > 0) or not enough(MOST_PROMPTS):
        return None
    low, high = 1, MOST_PROMPTS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return max(high, 2)


def timed(rounds: Sequence[Sequence[float]], statistic: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
          count: int, seed: int = 0) -> NDArray[np.float64]:
    """DRAWS values, ascending, of `statistic(mine, theirs)` for two equal candidates timed for `count` rounds each.

    `rounds` are the seconds of one candidate timed twice in turns. Rounds are drawn from them in pairs with replacement, and
    which of the two is "mine" by a coin, so that an order that favours one of them is in the result. Nothing lies beyond the
    rounds that were seen: of few of them it cannot show what is rare. ValueError for other than two lists.
    """
    if len(rounds) != 2:
        raise ValueError(f"{len(rounds)} lists of rounds; expected the two of an A/A run")
    one, other = (np.asarray(values, dtype=np.float64) for values in rounds)
    size, rng, ratios = min(len(one), len(other)), np.random.default_rng(seed), []
    for _ in range(DRAWS):
        places = rng.integers(0, size, count)
        pair = (one[places], other[places]) if rng.random() < 0.5 else (other[places], one[places])
        ratios.append(statistic(*pair))
    return np.sort(np.asarray(ratios, dtype=np.float64))


def rounded_up(margin: float, digits: int = 2) -> float:
    """The margin with so many significant digits, never smaller: 0.4132 becomes 0.42."""
    if margin <= 0 or not math.isfinite(margin):
        return max(margin, 0.0)
    place = digits - 1 - math.floor(math.log10(margin))
    scale = 10.0**place
    return round(math.ceil(round(margin * scale, 9)) / scale, max(place, 0))


def _within(images: pd.DataFrame, value: str) -> tuple[float | None, int, int]:
    """The mean variance within prompts, the prompts behind it, and all images."""
    if value not in images.columns:
        return None, 0, 0
    groups: Any = clustered(images).dropna(subset=[value]).groupby(CLUSTER)[value]
    variances: Any = groups.var(ddof=1).dropna()
    return (float(variances.mean()) if len(variances) else None), len(variances), int(groups.size().sum())


def _reach(distance: float, of: Design) -> float:
    """P(T >= t): see `pass_rate`."""
    return reach(distance, _degrees(of), _quantile(of))


def _quantile(of: Design) -> float:
    """That of the gate's t interval."""
    return float(student_t.ppf((1 + of.level) / 2, _degrees(of)))


def _distance(of: Design, share: float) -> float:
    """The noncentrality at which `_reach` is `share`."""
    def short(distance: float) -> float:
        return _reach(distance, of) - share

    high = 4.0
    while short(high) < 0:
        high *= 2
        if high > _WIDEST:
            raise ValueError(f"no margin within {_WIDEST:g} standard errors passes with probability {share:g}")
    return float(brentq(short, 0.0, high, xtol=1e-9)) if short(0.0) < 0 else 0.0


def _degrees(of: Design) -> int:
    if of.prompts < 2:
        raise ValueError(f"{of.prompts} prompts: an interval needs at least two")
    return of.prompts - 1
