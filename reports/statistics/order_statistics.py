"""What the order of n values says without an assumption on their distribution: a quantile's bound, a median's interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from scipy.stats import binom

from reports.statistics.intervals import LEVEL, Estimate

CONFIDENCE: Final = 0.95


@dataclass(frozen=True, kw_only=True)
class Percentile:
    """A quantile of `n` values: the observed `value` at it, and `at_most`, an upper bound that holds with 95 % confidence
    whatever the distribution. Both are None where `n` is smaller than `needed`, and `why` says so."""

    quantile: float
    n: int
    needed: int
    value: float | None
    at_most: float | None
    why: str = ""


def rounds_needed(quantile: float, confidence: float = CONFIDENCE) -> int:
    """The fewest values whose largest is at least the `quantile` with `confidence`: the least n with
    1 - quantile^n >= confidence. 5 for p50, 29 for p90, 59 for p95, 299 for p99. Raises ValueError outside 0 < q < 1."""
    if not 0 < quantile < 1:
        raise ValueError(f"quantile is {quantile!r}; expected a number between 0 and 1, such as 0.9")
    n = math.ceil(math.log(1 - confidence) / math.log(quantile))
    return n + 1 if 1 - quantile**n < confidence else n


def rounds_for_median(level: float = LEVEL) -> int:
    """The fewest values whose range, from the smallest to the largest, covers the true median with `level`: the least n with
    1 - 2^(1-n) >= level. 6 at 95 % (5 give 93.75 %), 7 at 97.5 %. Raises ValueError outside 0 < level < 1."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level!r}; expected a number between 0 and 1, such as 0.95")
    return next(n for n in count(2) if 1 - 2.0 ** (1 - n) >= level)


def percentile(values: Sequence[float], quantile: float, confidence: float = CONFIDENCE) -> Percentile:
    """The ceil(n q)-th smallest of n values, and the distribution-free upper bound of the quantile.

    The bound is the k-th smallest value with the least k for which P(Binomial(n, q) <= k - 1) >= confidence: fewer than k
    of n independent values lie below the true quantile that surely (Conover, Practical Nonparametric Statistics, 3.2). The
    median is always given, with a bound from 5 values on; every other quantile only where there is a bound.
    """
    n, needed, ordered = len(values), rounds_needed(quantile, confidence), sorted(values)
    if n < needed:
        value = statistics.median(ordered) if n and quantile == 0.5 else None
        return Percentile(quantile=quantile, n=n, needed=needed, value=value, at_most=None,
                          why=f"too few rounds: {n} of {needed}")
    value = statistics.median(ordered) if quantile == 0.5 else ordered[math.ceil(n * quantile - 1e-9) - 1]
    return Percentile(quantile=quantile, n=n, needed=needed, value=value, at_most=ordered[_bound(n, quantile, confidence) - 1])


def _bound(n: int, quantile: float, confidence: float) -> int:
    """The least k with P(Binomial(n, quantile) <= k - 1) >= confidence; at most n, given n >= rounds_needed."""
    below = 0.0
    for k in range(1, n):
        below += math.exp(math.lgamma(n + 1) - math.lgamma(k) - math.lgamma(n - k + 2)
                          + (k - 1) * math.log(quantile) + (n - k + 1) * math.log1p(-quantile))
        if below >= confidence:
            return k
    return n


def median_interval(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """The median with the distribution-free interval between two order statistics: the k-th smallest and the k-th largest value
    with the largest k for which 2 P(Binomial(n, 1/2) <= k - 1) <= 1 - level.

    In the unit of `values`. Where there are too few of them for any k (fewer than 6 at 95 %), the smallest and the largest, which
    cover the true median with 1 - 2^(1-n); `why` says so. Raises ValueError without values. David and Nagaraja, Order
    Statistics (2003), section 7.1.
    """
    n, ordered = len(values), sorted(values)
    if not n:
        raise ValueError("a median of no values; expected at least one round")
    ranks = [k for k in range(1, n // 2 + 1) if 2 * float(binom.cdf(k - 1, n, 0.5)) <= 1 - level]
    k = max(ranks, default=1)
    few = "" if ranks else f"the range of {n} round{'' if n == 1 else 's'}, too few for a {100 * level:.3g} % interval"
    return Estimate(mean=statistics.median(ordered), low=ordered[k - 1], high=ordered[n - k], prompts=0, pairs=n, why=few)
