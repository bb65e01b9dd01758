"""Intervals for means over prompts: the prompt is the cluster, images of one prompt are not independent. Pure functions on
tables and arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student_t

from harness.declare.same_text import SAME_TEXT
from harness.records import ValueSpec

LEVEL: Final = 0.95
PAIRED_BY: Final = ("prompt", "seed", "guidance")
CLUSTER: Final = SAME_TEXT
"""The column that says which rows are images of one text: prompts that read the same are one cluster. In tables without it every
prompt has its own text."""


def clustered(table: pd.DataFrame, other: pd.DataFrame | None = None) -> pd.DataFrame:
    """The table with the column CLUSTER, in which all images of a prompt are in one cluster. Prompts that are one text at some
    guidance scale, as those that differ in the negative alone are at 1, are one cluster of a table with images at this scale and
    others, and of one that is compared with such an `other`."""
    named = table if CLUSTER in table.columns else table.assign(**{CLUSTER: table["prompt"]})
    if "prompt" not in named.columns:
        return named
    # Sets of plain words: this is asked for every figure of a page, and pandas takes most of a millisecond.
    pairs = dict.fromkeys(zip(named["prompt"].tolist(), named[CLUSTER].tolist(), strict=True))
    if other is not None and "prompt" in other.columns:
        theirs = other["prompt"] if CLUSTER not in other.columns else other[CLUSTER]
        pairs |= dict.fromkeys(zip(other["prompt"].tolist(), theirs.tolist(), strict=True))
    if len({prompt for prompt, _ in pairs}) == len(pairs):
        return named
    joined = _joined(pairs)
    return named.assign(**{CLUSTER: [joined[prompt] for prompt in named["prompt"]]})


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """{prompt: a cluster}, the same for prompts that some chain of clusters connects."""
    groups: list[tuple[set[str], set[str]]] = []
    for prompt, cluster in pairs:
        near = [group for group in groups if prompt in group[0] or cluster in group[1]]
        groups = [group for group in groups if group not in near]
        groups.append(({prompt}.union(*(group[0] for group in near)), {cluster}.union(*(group[1] for group in near))))
    return {prompt: min(clusters) for prompts, clusters in groups for prompt in prompts}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean with its interval, or the reason why one of them is absent (`why`; then the figure is None, never zero).

    `prompts` is the number of clusters, `pairs` the number of images (or of image pairs) behind the mean, `error` the
    standard error of the mean, `level` that of the interval.
    """

    mean: float | None
    low: float | None
    high: float | None
    prompts: int
    pairs: int
    why: str = ""
    error: float | None = None
    level: float = LEVEL

    @property
    def distinct(self) -> bool:
        """Whether the interval excludes 0; an estimate without an interval is never called distinct."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def word(self) -> str:
        """For a difference in which more is better: "better", "worse", "tied", or "not measured"."""
        if self.mean is None or self.low is None:
            return "not measured"
        return "tied" if not self.distinct else "better" if self.mean > 0 else "worse"


def cluster_interval(values: NDArray[np.float64], clusters: Sequence[object], level: float = LEVEL) -> Estimate:
    """Mean of the cluster means and its t interval with P - 1 degrees of freedom.

    mean = (1/P) sum_p m_p, where m_p is the mean of `values` in cluster p; half width = t(P-1) * sd(m) / sqrt(P).
    Both arguments have length n; NaN is dropped. Every prompt counts once, however many of its images are there.
    No mean of nothing, and no interval from fewer than two clusters: the Estimate then says why. Miller 2024
    (arXiv 2411.00640) for clustering by question, Bowyer et al. 2025 (arXiv 2503.01747) for t instead of z.
    """
    frame = pd.DataFrame({"value": values, "cluster": list(clusters)}).dropna(subset=["value"])
    if frame.empty:
        return Estimate(mean=None, low=None, high=None, prompts=0, pairs=0, why="no values")
    means = frame.groupby("cluster", sort=True)["value"].mean().to_numpy(dtype=np.float64)
    return replace(of_means(means, level), pairs=len(frame))


def of_means(means: NDArray[np.float64], level: float = LEVEL) -> Estimate:
    """The estimate of `cluster_interval` from the means of P >= 1 clusters, each of one pair."""
    centre, count = float(means.mean()), len(means)
    if count < 2:
        return Estimate(mean=centre, low=None, high=None, prompts=1, pairs=count,
                        why="one prompt only: an interval needs at least two")
    error = float(means.std(ddof=1)) / count**0.5
    half = float(student_t.ppf((1 + level) / 2, count - 1)) * error
    return Estimate(mean=centre, low=centre - half, high=centre + half, prompts=count, pairs=count, error=error,
                    level=level)


def cluster_mean(table: pd.DataFrame, value: ValueSpec, level: float = LEVEL) -> Estimate:
    """Mean of a value over the rows with prompts as clusters (see `cluster_interval`), with an interval within the value's
    range (see `within_bounds`). The column has the value's name; rows without a value are dropped."""
    if value.name not in table.columns:
        return Estimate(mean=None, low=None, high=None, prompts=0, pairs=0, why=f"{value.name} was not measured")
    return within_bounds(cluster_interval(_floats(table[value.name]), clustered(table)[CLUSTER].tolist(), level), value, level)


def cluster_means(table: pd.DataFrame, value: str, by: Sequence[str], level: float = LEVEL) -> dict[tuple[Any, ...], Estimate]:
    """As `cluster_interval`, of every group of rows that share the columns `by`, in the order in which groups first appear.

    All groups at once: a loop over thousands of cells would spend its time in pandas. Groups without any value are absent.
    """
    measured = clustered(table).dropna(subset=[value])
    if measured.empty:
        return {}
    prompts: Any = measured.groupby([*by, CLUSTER], sort=False)[value].agg(["mean", "size"])
    groups: Any = prompts.groupby(level=list(range(len(by))), sort=False)
    sums = pd.DataFrame({"mean": groups["mean"].mean(), "spread": groups["mean"].std(ddof=1), "prompts": groups.size(),
                         "pairs": groups["size"].sum()})
    count = sums["prompts"].to_numpy()
    quantile = student_t.ppf((1 + level) / 2, np.maximum(count - 1, 1))
    estimates = {}
    rows = zip(sums.index, sums["mean"].tolist(), sums["spread"].tolist(), count.tolist(), sums["pairs"].tolist(),
               quantile.tolist(), strict=True)
    for key, mean, spread, clusters, pairs, q in rows:
        name = key if isinstance(key, tuple) else (key,)
        if clusters < 2:
            estimates[name] = Estimate(mean=mean, low=None, high=None, prompts=1, pairs=pairs,
                                   why="one prompt only: an interval needs at least two")
            continue
        error = spread / clusters**0.5
        estimates[name] = Estimate(mean=mean, low=mean - q * error, high=mean + q * error, prompts=clusters, pairs=pairs,
                                   error=error, level=level)
    return estimates


def within_bounds(of: Estimate, value: ValueSpec, level: float = LEVEL) -> Estimate:
    """The estimate of a mean with an interval that stays within the range of the value: Wilson's for shares and flags (see
    `wilson`), else the t interval cut where the range ends. A value without a range keeps the t interval."""
    if value.bounded_share:
        return wilson(of, flags=value.kind == "flag", level=level)
    return _cut(of, value.low, value.high)


def wilson(of: Estimate, *, flags: bool = False, level: float = LEVEL) -> Estimate:
    """The estimate of a mean p of values in [0, 1] with Wilson's score interval in place of the t interval.

    n = p (1 - p) / error^2 is the number of independent draws that would have this standard error (the effective sample
    size), and q the t quantile of P - 1 degrees of freedom; the ends are (p + q^2/2n -+ q sqrt(p(1-p)/n + q^2/4n^2)) /
    (1 + q^2/n). Where the prompts do not differ at all there is no error to go by: `flags` (0 or 1 for each image)
    get the interval of n = all images and the normal quantile, other shares keep theirs of no width. An estimate without
    interval, or with a mean outside [0, 1], is returned as it is. Wilson, JASA 22 (1927) 209; Franco, Little, Louis and
    Slud, Journal of Survey Statistics and Methodology 7 (2019) 334, for clusters; Korn and Graubard, Survey Methodology 24
    (1998) 193, for all images where none or all have the flag.
    """
    p, error = of.mean, of.error
    if p is None or error is None or not 0 <= p <= 1:
        return of
    spread = p * (1 - p)
    if error > 1e-12 and spread > 0:
        n, q = spread / error**2, float(student_t.ppf((1 + level) / 2, of.prompts - 1))
    elif flags:
        n, q = float(of.pairs), float(norm.ppf((1 + level) / 2))
    else:
        return of
    centre, scale = p + q * q / (2 * n), 1 + q * q / n
    half = q * (spread / n + q * q / (4 * n * n)) ** 0.5
    return replace(of, low=0.0 if p == 0 else max(0.0, (centre - half) / scale),
                   high=1.0 if p == 1 else min(1.0, (centre + half) / scale))


def paired_difference(table: pd.DataFrame, other: pd.DataFrame, value: ValueSpec,
                      by: Sequence[str] = PAIRED_BY, level: float = LEVEL) -> Estimate:
    """Mean of a value in `table` minus `other` over the images both have, paired by the columns `by`.

    Each pair shares prompt and seed (and guidance, unless `by` leaves it out), so what they have in common cancels;
    the differences are then treated as in `cluster_interval`, and the interval is cut where two values cannot be further apart
    (see `within_range`). Rows without a partner or without a value are dropped and so not counted in `pairs`. Duplicate keys
    raise pandas.errors.MergeError.
    """
    columns = [*by, value.name]
    if absent := [c for c in columns if c not in table.columns or c not in other.columns]:
        return Estimate(mean=None, low=None, high=None, prompts=0, pairs=0, why=f"{absent[0]} was not measured")
    pairs = differences(table, other, value.name, by)
    if pairs.empty:
        return Estimate(mean=None, low=None, high=None, prompts=0, pairs=0,
                        why=f"no image of one shares {', '.join(by)} with an image of the other")
    return within_range(cluster_interval(_floats(pairs["difference"]), pairs[CLUSTER].tolist(), level), value)


def spans_range(of: Estimate, value: ValueSpec) -> bool:
    """Whether the interval of a difference reaches past all differences that are possible, on both sides: it says nothing."""
    if None in (value.low, value.high, of.low, of.high):
        return False
    widest = float(value.high or 0.0) - float(value.low or 0.0)
    return float(of.low or 0.0) <= -widest and float(of.high or 0.0) >= widest


def within_range(of: Estimate, value: ValueSpec) -> Estimate:
    """The estimate of a difference of two values, its interval cut at the width of their range: a difference of two shares is
    within -1 and 1. A value without both ends is not cut."""
    if value.low is None or value.high is None:
        return of
    return _cut(of, value.low - value.high, value.high - value.low)


def _cut(of: Estimate, low: float | None, high: float | None) -> Estimate:
    """The estimate with an interval that ends at `low` and `high`. A mean that lies outside of them was not of such values, and
    is returned as it is."""
    if of.mean is None or of.low is None or of.high is None:
        return of
    if (low is not None and of.mean < low) or (high is not None and of.mean > high):
        return of
    return replace(of, low=of.low if low is None else max(of.low, low), high=of.high if high is None else min(of.high, high))


def differences(table: pd.DataFrame, other: pd.DataFrame, value: str, by: Sequence[str] = PAIRED_BY) -> pd.DataFrame:
    """The pairs behind `paired_difference`: the columns `by`, which must hold "prompt", CLUSTER and `difference`."""
    columns = [*by, value]
    mine = clustered(table, other)[[CLUSTER, *columns]].dropna()
    both = mine.merge(other[columns].dropna(), on=list(by), suffixes=("_of", "_other"), validate="one_to_one")
    both["difference"] = _floats(both[f"{value}_of"]) - _floats(both[f"{value}_other"])
    return both[[*by, CLUSTER, "difference"]]


def bootstrap_interval(values: NDArray[np.float64], clusters: Sequence[object], level: float = LEVEL,
                       draws: int = 1999, seed: int = 7) -> Estimate:
    """As `cluster_interval`, with the quantiles of the studentised cluster bootstrap in place of those of t.

    Whole clusters are drawn with replacement and t* = (mean* - mean) / error* is noted; the interval is [mean - q_high *
    error, mean - q_low * error]. It makes no assumption about the shape of the distribution of prompts, so that where it
    disagrees with the t interval the values are skewed or a few prompts decide. Draws without spread are left out.
    Hall, Annals of Statistics 16 (1988) 927; Cameron, Gelbach and Miller, REStat 90 (2008) 414, for clusters.
    """
    plain = cluster_interval(values, clusters, level)
    if plain.mean is None or not plain.error:
        return plain
    frame = pd.DataFrame({"value": values, "cluster": list(clusters)}).dropna(subset=["value"])
    means = frame.groupby("cluster", sort=True)["value"].mean().to_numpy(dtype=np.float64)
    count = len(means)
    drawn = means[np.random.default_rng(seed).integers(0, count, (draws, count))]
    error = drawn.std(axis=1, ddof=1) / count**0.5
    usable = error > 1e-9 * plain.error
    t = (drawn.mean(axis=1)[usable] - plain.mean) / error[usable]
    low, high = np.quantile(t, ((1 - level) / 2, (1 + level) / 2))
    return replace(plain, low=plain.mean - float(high) * plain.error, high=plain.mean - float(low) * plain.error)


def holm(estimates: Sequence[Estimate], value: ValueSpec, level: float = LEVEL) -> tuple[Estimate, ...]:
    """The differences of a value with t intervals wide enough that all their verdicts hold together with probability `level`.

    By Holm's steps: of k estimates the one with the smallest p value (t of P - 1 degrees of freedom) gets the interval of
    level 1 - (1 - level) / k; if that excludes 0, the next gets 1 - (1 - level) / (k - 1), and so on; from the first that
    includes 0 all others keep that width. So each interval is the one its own verdict was read from. Estimates without
    an error have no verdict, are not counted in k and come back as they are. Holm, Scandinavian Journal of Statistics 6
    (1979) 65.
    """
    counted = [i for i, e in enumerate(estimates) if e.mean is not None and e.error is not None]
    order = sorted(counted, key=lambda i: _p_value(estimates[i]))
    adjusted, remaining = list(estimates), len(counted)
    for i in order:
        e = estimates[i]
        assert e.mean is not None
        assert e.error is not None
        half = float(student_t.ppf(1 - (1 - level) / (2 * remaining), e.prompts - 1)) * e.error
        wide = replace(e, low=e.mean - half, high=e.mean + half, level=1 - (1 - level) / remaining)
        adjusted[i] = within_range(wide, value)
        if adjusted[i].distinct:
            remaining -= 1
    return tuple(adjusted)


def _p_value(of: Estimate) -> float:
    """Two-sided p value of a mean of 0, by t with P - 1 degrees of freedom."""
    if not of.error:
        return 0.0 if of.mean else 1.0
    return 2.0 * float(student_t.sf(abs(of.mean or 0.0) / of.error, of.prompts - 1))


def _floats(column: pd.Series[Any]) -> NDArray[np.float64]:
    return np.asarray(column, dtype=np.float64)
