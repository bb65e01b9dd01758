"""Images of candidates with other guidance scales side by side: the rule of harness/declare/pairing.py on tables of images."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from harness.declare import grid_of
from harness.declare.pairing import counterpart
from reports.read.run import Run


def scales_of(run: Run, name: str) -> tuple[float, ...]:
    """The guidance scales that a candidate is sampled at."""
    return tuple(map(float, grid_of(run.suite, run.declared(name)).guidance_scales))


def scale_at(run: Run, name: str, guidance: float) -> float | None:
    """The guidance scale of a candidate whose images stand beside those of another at `guidance`; None where there is none."""
    return counterpart(scales_of(run, name), guidance)


def stand_beside(run: Run, other: str, scales: tuple[float | None, float | None]) -> bool:
    """Whether another candidate's images at the second of two guidance scales stand beside those at the first."""
    guidance, theirs = scales
    return guidance is not None and theirs == scale_at(run, other, guidance)


def rows_at(run: Run, guidance: float | None, rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """The images (or those of `rows`) of all candidates at a guidance scale, each candidate's at its counterpart of it; at every
    scale for None."""
    table = run.images if rows is None else rows
    if guidance is None:
        return table
    scales = {name: scale_at(run, str(name), guidance) for name in table["candidate"].unique()}
    if set(scales.values()) <= {float(guidance)}:
        return table[table["guidance"] == guidance]
    return table[table["guidance"] == table["candidate"].map(scales).astype(float)]


def beside(theirs: pd.DataFrame, known: Iterable[float], scales: Iterable[float]) -> pd.DataFrame:
    """A candidate's rows at the counterparts of another's guidance scales, under the other's scale, so that both are paired by
    prompt, seed and guidance. `known` are all scales of the candidate."""
    known = tuple(known)
    parts = [theirs[theirs["guidance"] == at].assign(guidance=float(scale)) for scale in dict.fromkeys(map(float, scales))
             if (at := counterpart(known, scale)) is not None]
    return pd.concat(parts) if parts else theirs.iloc[:0]
