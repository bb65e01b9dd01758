"""What an image is worth by the suite's objective: a value, or the desirability of several, minus penalties."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.declare import DESIRABILITY, Desirability, Objective
from harness.records import ValueSpec
from harness.records.values import spec_of


def desirable(values: NDArray[np.float64], of: Desirability) -> NDArray[np.float64]:
    """How desirable each value is: ((value - worst) / (best - worst)) ^ shape, cut to 0 at `worst` and beyond and to 1 at `best`
    and beyond. `best` may be the smaller of the two. Any shape of array; no unit; NaN stays NaN.

    Raises ValueError where worst and best are equal: the check of a suite refuses that. Derringer and Suich, Journal of
    Quality Technology 12 (1980) 214, equations 1 and 2; one-sided.
    """
    if of.worst == of.best:
        raise ValueError(f"desirability of {of.metric!r}: worst and best are both {of.best:g}; expected two different values")
    share = (np.asarray(values, dtype=np.float64) - of.worst) / (of.best - of.worst)
    return np.asarray(np.clip(share, 0.0, 1.0) ** of.shape, dtype=np.float64)


def desirability(table: pd.DataFrame, parts: Sequence[Desirability]) -> pd.Series[float]:
    """100 times the weighted geometric mean of the desirabilities of each row: 100 (prod d_i ^ w_i) ^ (1 / sum w_i).

    In points from 0 to 100, and 0 as soon as one part is: what is unacceptable in one respect is not made good by another.
    NaN where a part is missing, and throughout where there are no parts or no weight.
    """
    total = sum(part.weight for part in parts)
    if not total > 0:
        return pd.Series(np.nan, index=table.index, dtype=float)
    product = np.ones(len(table))
    for part in parts:
        values = np.asarray(column(table, part.metric), dtype=np.float64)
        product = product * desirable(values, part) ** (part.weight / total)
    return pd.Series(100.0 * product, index=table.index, dtype=float)


def parts_of(objective: Objective) -> tuple[str, ...]:
    """The values that an objective is made of, each once, in the order of the declaration."""
    best = [d.metric for d in objective.desirabilities] if objective.maximise == DESIRABILITY else [objective.maximise]
    return tuple(dict.fromkeys([*best, *(p.metric for p in objective.penalties)]))


def depends_on_prompt(value: str, objective: Objective, values: Mapping[str, ValueSpec]) -> bool:
    """Whether a value of an image depends on the candidate's other images of the prompt, as an objective does that has such a
    part. `values` are the rows of the run."""
    parts = parts_of(objective) if value in ("objective", DESIRABILITY) else (value,)
    return any(spec_of(values, part).pooled for part in parts)


def range_of(objective: Objective, values: Mapping[str, ValueSpec]) -> tuple[float | None, float | None]:
    """The least and the largest objective that an image can have, in points; None where a part has no such end. `values` are the
    rows of the parts."""
    best = spec_of(values, objective.maximise)
    low, high = (0.0, 100.0) if objective.maximise == DESIRABILITY else (best.low, best.high)
    for p in objective.penalties:
        part = spec_of(values, p.metric)
        ends = [None if end is None else p.weight * max(0.0, end - p.allowance) for end in (part.low, part.high)]
        least, most = ends if p.weight >= 0 else ends[::-1]
        # A penalty is never negative, so that a part without a lower end still takes nothing at best.
        least = 0.0 if least is None and p.weight >= 0 else least
        low = None if low is None or most is None else low - most
        high = None if high is None or least is None else high - least
    return (low, high) if low is None or high is None or low < high else (None, None)


def with_objective(table: pd.DataFrame, objective: Objective) -> pd.DataFrame:
    """The table with the column `objective`, and `desirability` where the objective maximises it: per row, the value of
    `maximise` minus weight x (value - allowance), where that is positive, of every penalty. NaN where any of them is."""
    table = table.copy()
    if objective.maximise == DESIRABILITY:
        table[DESIRABILITY] = desirability(table, objective.desirabilities)
    score = column(table, objective.maximise)
    for p in objective.penalties:
        score = score - p.weight * (column(table, p.metric) - p.allowance).clip(lower=0)
    table["objective"] = score
    return table


def column(table: pd.DataFrame, name: str) -> pd.Series[float]:
    """A column as floats; NaN throughout where the table has none of that name."""
    if name not in table.columns:
        return pd.Series(np.nan, index=table.index, dtype=float)
    return table[name].astype(float)
