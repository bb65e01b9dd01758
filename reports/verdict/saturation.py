"""An objective that has the same value for images that differ: it cannot tell them apart."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from harness.declare import DESIRABILITY
from reports.read.objective import parts_of
from reports.read.run import Run
from reports.statistics.intervals import differences

CLAMPED: Final = ("objective", DESIRABILITY)
EQUAL: Final = "every image has the same value, so the objective cannot tell them apart"


def saturated(run: Run, mine: pd.DataFrame, theirs: pd.DataFrame, value: str) -> bool:
    """Whether all images of both sides have one value of the objective although a part of it differs in some pair of them: then a
    difference of 0 is not measured. Equal images differ in no part."""
    if value not in CLAMPED or any(value not in rows.columns for rows in (mine, theirs)):
        return False
    values = pd.concat([mine[value], theirs[value]]).dropna()
    return len(values) > 1 and values.nunique() == 1 and any(
        _apart(mine, theirs, part) for part in parts_of(run.suite.objective))


def _apart(mine: pd.DataFrame, theirs: pd.DataFrame, part: str) -> bool:
    """Whether a part of the objective differs in a pair of images by more than rounding."""
    if part not in mine.columns or part not in theirs.columns:
        return False
    apart = differences(mine, theirs, part)["difference"].to_numpy(dtype=float)
    return bool(len(apart)) and not np.allclose(apart, 0.0, atol=1e-6)
