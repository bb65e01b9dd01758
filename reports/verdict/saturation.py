"""A value that is the same for images that differ: it cannot tell them apart, so that a difference of 0 says nothing."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from harness.declare import DESIRABILITY
from reports.read.objective import parts_of
from reports.read.run import Run
from reports.statistics.intervals import PAIRED_BY, differences

CLAMPED: Final = ("objective", DESIRABILITY)
ROUNDING: Final = 1e-6


def cannot_tell(value: str) -> str:
    """That a value does not tell the images apart, in words."""
    named = f"the {value}" if value in CLAMPED else value
    return f"every image has the same value, so {named} cannot tell them apart"


def saturated(run: Run, mine: pd.DataFrame, theirs: pd.DataFrame, value: str) -> bool:
    """Whether all images of both sides have one value although they differ: then a difference of 0 is not measured.

    An objective or desirability is saturated where a part of it differs in some pair of images. Any other value is where it is
    not the best that it can be: no clipped pixel anywhere is a finding. What people say of images is theirs to say alike.
    """
    if any(value not in rows.columns for rows in (mine, theirs)):
        return False
    values = pd.concat([mine[value], theirs[value]]).dropna()
    if len(values) < 2 or values.nunique() != 1:
        return False
    parts = parts_of(run.suite.objective) if value in CLAMPED else ()
    if any(_apart(mine, theirs, part) for part in parts):
        return True
    spec = run.row(value)
    best = {"higher": spec.high, "lower": spec.low}.get(spec.better)
    at_best = best is not None and abs(float(values.iloc[0]) - best) <= ROUNDING
    return spec.origin != "people" and not at_best and _other_images(run, mine, theirs)


def _apart(mine: pd.DataFrame, theirs: pd.DataFrame, part: str) -> bool:
    """Whether a part of the objective differs in a pair of images by more than rounding."""
    if part not in mine.columns or part not in theirs.columns:
        return False
    apart = differences(mine, theirs, part)["difference"].to_numpy(dtype=float)
    return bool(len(apart)) and not np.allclose(apart, 0.0, atol=ROUNDING)


def _other_images(run: Run, mine: pd.DataFrame, theirs: pd.DataFrame) -> bool:
    """Whether a pair of images is known to be two images: their files differ."""
    if "path" not in mine.columns or "path" not in theirs.columns:
        return False
    columns = [*PAIRED_BY, "path"]
    pairs = mine[columns].merge(theirs[columns], on=list(PAIRED_BY), suffixes=("", "_other"))
    digests = [(run.digests.get(str(a), ""), run.digests.get(str(b), "")) for a, b in zip(
        pairs["path"], pairs["path_other"], strict=True)]
    return any(a and b and a != b for a, b in digests)
