"""At which guidance scale each candidate is shown beside the pick."""

from __future__ import annotations

import pandas as pd

from reports.read.beside import scale_at, scales_of
from reports.read.run import Run
from reports.verdict.picking import own_guidances
from reports.verdict.recommendation import Recommendation


def shown_scales(run: Run, rec: Recommendation) -> dict[str, float | None]:
    """By candidate the counterpart of the pick's guidance scale; of a candidate that has none, the scale that suits it best. None
    (all scales) where the recommendation names no guidance."""
    if rec.guidance is None:
        return dict.fromkeys((c.name for c in run.suite.candidates), None)
    own = own_guidances(rec.cells)
    shown: dict[str, float | None] = {}
    for c in run.suite.candidates:
        scale = scale_at(run, c.name, rec.guidance)
        shown[c.name] = own.get(c.name, scales_of(run, c.name)[0]) if scale is None else scale
    return shown


def shown_rows(run: Run, rec: Recommendation, rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """The images (or those of `rows`) of every candidate at the scale it is shown at."""
    table = run.images if rows is None else rows
    if rec.guidance is None:
        return table
    return table[table["guidance"] == table["candidate"].map(shown_scales(run, rec)).astype(float)]


def shown_scale_words(run: Run, rec: Recommendation) -> str:
    """Where the images of shown_rows were sampled, in words."""
    if rec.guidance is None:
        return "all guidance scales"
    return f"CFG {rec.guidance:g}" if set(shown_scales(run, rec).values()) == {rec.guidance} else "each candidate's own CFG"
