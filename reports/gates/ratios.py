"""Ratios of a value's means over images that two candidates both have: what decides a gate with a ratio, and what is shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student_t

from harness.records import ValueSpec
from reports.gates.outcome import nothing
from reports.statistics.intervals import CLUSTER, LEVEL, PAIRED_BY, Estimate, clustered, paired_difference


def times(mine: pd.DataFrame, other: pd.DataFrame, value: ValueSpec, ratio: float, level: float = LEVEL) -> Estimate:
    """The mean of mine - ratio x other's over the images both have, in the value's unit, as in `paired_difference`: at most 0
    where the ratio of the means is at most `ratio`. It needs no division, so other's mean may be 0; where that is negative
    a ratio means nothing, and there is no estimate."""
    name = value.name
    if name not in mine.columns or name not in other.columns:
        return nothing(f"{name} was not measured")
    # A multiple of the other's value has another range.
    free = replace(value, kind="number", low=None, high=None)
    difference = paired_difference(mine, other.assign(**{name: other[name] * ratio}), free, level=level)
    if difference.mean is not None and float(np.mean(_means(mine, other, name)[:, 1])) < 0:
        return nothing(f"the other's mean of {name} is below 0, where a ratio is meaningless; give a margin instead")
    return difference


def ratio_of_means(mine: pd.DataFrame, other: pd.DataFrame, value: str, level: float = LEVEL) -> Estimate:
    """Mean of mine over mean of other's, over the images both have and with prompts as clusters; no unit.

    The interval is Fieller's: every r for which the t interval of mean(mine - r x other) includes 0, with P - 1 degrees of
    freedom. With the prompt means a and b, their variances v and covariance c (each over P), and q the t quantile: (a b - q^2 c
    -+ sqrt((a b - q^2 c)^2 - (b^2 - q^2 v_b)(a^2 - q^2 v_a))) / (b^2 - q^2 v_b). It exists where b is clearly above 0 (b > q
    sqrt(v_b)); elsewhere low and high are None, and `why` says so. Fieller, JRSS B 16 (1954) 175.
    """
    if value not in mine.columns or value not in other.columns:
        return nothing(f"{value} was not measured")
    pairs = _pairs(mine, other, value)
    means = _means(mine, other, value)
    if not len(means):
        return nothing(f"no image of one shares {', '.join(PAIRED_BY)} with an image of the other")
    a, b = means.mean(axis=0).tolist()
    count = len(means)
    ratio = Estimate(mean=a / b if b > 0 else None, low=None, high=None, prompts=count, pairs=len(pairs), level=level)
    if count < 2:
        return replace(ratio, why="one prompt only: an interval needs at least two")
    spread = np.cov(means.T, ddof=1) / count
    squared = float(student_t.ppf((1 + level) / 2, count - 1)) ** 2
    under = b * b - squared * float(spread[1, 1])
    if b <= 0 or under <= 0:
        return replace(ratio, why="the other's mean is not clearly above 0, so the ratio has no interval")
    middle = a * b - squared * float(spread[0, 1])
    root = max(0.0, middle * middle - under * (a * a - squared * float(spread[0, 0]))) ** 0.5
    return replace(ratio, low=(middle - root) / under, high=(middle + root) / under)


def _pairs(mine: pd.DataFrame, other: pd.DataFrame, value: str) -> pd.DataFrame:
    columns = [*PAIRED_BY, value]
    return clustered(mine, other)[[CLUSTER, *columns]].dropna().merge(
        other[columns].dropna(), on=list(PAIRED_BY), suffixes=("_of", "_other"), validate="one_to_one")


def _means(mine: pd.DataFrame, other: pd.DataFrame, value: str) -> NDArray[np.float64]:
    """The means of both by text, (P, 2)."""
    grouped: Any = _pairs(mine, other, value).groupby(CLUSTER, sort=True)
    return np.asarray(grouped[[f"{value}_of", f"{value}_other"]].mean(), dtype=np.float64).reshape(-1, 2)
