"""The pick among the tied cells: by a smooth surface where candidates lie on a numeric axis, else by the cells as measured.
Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.declare import Suite, grid_of
from harness.declare.swept_axis import CHEAPER, axes_of_pick, sides_of_pick
from reports.statistics.plateau import SweetSpot, place, sweet_spot
from reports.statistics.surface import Surface, fit_surface
from reports.verdict.candidates import axis_of, parents
from reports.verdict.recommendation import Scored
from reports.verdict.scoring import CELL, CellKey, on_common_images

FEWEST_VALUES: Final = 3
"""Of the axis: two values make no surface."""


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """A surface and the cell that each of its points is."""

    surface: Surface
    cells: tuple[CellKey, ...]

    def mask(self, cells: Sequence[Scored]) -> NDArray[np.bool_]:
        """Which points are one of `cells`."""
        keys = {key_of(c) for c in cells}
        return np.array([cell in keys for cell in self.cells], dtype=np.bool_)


@dataclass(frozen=True, kw_only=True)
class Pick:
    """The cell picked from `free`, of which `near` are within one standard error of the best, and the surface and its spot where
    they decided; `caveat` where they could not, though there is a surface."""

    cell: Scored
    free: tuple[Scored, ...]
    near: int = 1
    mapped: Mapped | None = None
    spot: SweetSpot | None = None
    caveat: str = ""


def key_of(cell: Scored) -> CellKey:
    """(candidate, guidance)."""
    return cell.candidate, cell.guidance


def competing(cells: Sequence[Scored]) -> list[Scored]:
    """The cells that may be best: complete, measured, and ruled out by no constraint."""
    return [c for c in cells if c.complete and not c.ruled_out and c.objective.mean is not None]


def choose(table: pd.DataFrame, suite: Suite, cells: Sequence[Scored]) -> Pick | None:
    """The cell that recommendation.SWEEP_RULE names, of `cells` scored on `table`; without intervals the highest mean, and
    None where no cell competes."""
    ranked = competing(cells)
    if not ranked:
        return None
    best = max(ranked, key=_mean)
    if best.behind.low is None:
        return Pick(cell=best, free=(best,))
    tied = [c for c in ranked if c.tied]
    free = tuple(c for c in tied if c.candidate not in parents(suite)) or tuple(tied)
    mapped = surface_of(table, suite, cells)
    if mapped is None:
        return _as_measured(suite, tied, free)
    prefer = sides_of_pick(suite)
    whole = sweet_spot(mapped.surface, prefer, eligible=mapped.mask([c for c in cells if not c.ruled_out]))
    if not (whole.near & mapped.mask(tied)).any():
        return replace(_as_measured(suite, tied, free), mapped=mapped, caveat=(
            f"A smooth surface does not fit these cells: its optimum, {place(mapped.surface, whole.best)}, is not among the tied "
            "ones. The pick is based on the measured cells; more prompts would show whether their peak is real."))
    spot = sweet_spot(mapped.surface, prefer, eligible=mapped.mask(free))
    picked = next(c for c in free if key_of(c) == mapped.cells[spot.pick])
    return Pick(cell=picked, free=free, near=int(spot.near.sum()), mapped=mapped, spot=spot)


def surface_of(table: pd.DataFrame, suite: Suite, cells: Sequence[Scored]) -> Mapped | None:
    """The surface through all cells with as many images as the fullest, also those that do not compete; None where there is no
    axis with three values that tell the candidates apart, or no surface can be fitted."""
    axis = axis_of(suite)
    fullest = max((c.objective.pairs for c in cells if c.complete), default=0)
    known = [key_of(c) for c in cells if c.objective.mean is not None and c.objective.pairs == fullest]
    if axis is None:
        return None
    values = {c.name: float(c.axes[axis]) for c in suite.candidates}
    names = {name for name, _ in known}
    if len({values[n] for n in names}) < max(FEWEST_VALUES, len(names)):
        return None
    axes = [axis, "guidance"] if len({guidance for _, guidance in known}) > 1 else [axis]
    rows = pd.MultiIndex.from_frame(table[list(CELL)]).isin(pd.MultiIndex.from_tuples(known))
    try:
        surface = fit_surface(on_common_images(table[rows], known), axes)
    except ValueError:
        return None
    at = {(values[name], guidance)[:len(axes)]: (name, guidance) for name, guidance in known}
    found = tuple(at[tuple(point)] for point in surface.points.tolist())
    return Mapped(surface=surface, cells=found)


def _as_measured(suite: Suite, tied: Sequence[Scored], free: tuple[Scored, ...]) -> Pick:
    """Of the free cells within one standard error of the best those with the preferred value of an axis that costs, of these the
    guidance that is preferred, there the preferred value of each axis that the objective names, and last that of the swept axis;
    the middle is that of the tied values."""
    near = [c for c in free if -(c.behind.mean or 0.0) <= (c.behind.error or 0.0)] or [max(free, key=_mean)]
    prefer = sides_of_pick(suite)
    decisive = axes_of_pick(suite)
    named = [axis for axis in prefer if axis in decisive]
    row = near
    # What an axis of CHEAPER saves comes before a guidance scale, which costs nothing.
    for axis in named:
        if axis in CHEAPER or scales_apart(suite):
            row = _along(suite, axis, row, tied)
    if scales_apart(suite):
        scales = {c.name: frozenset(map(float, grid_of(suite, c).guidance_scales)) for c in suite.candidates}
        best = max(row, key=_mean)
        row = [c for c in row if scales[c.candidate] == scales[best.candidate]]
        tied = [c for c in tied if scales[c.candidate] == scales[best.candidate]]
    scale = _target(prefer.get("guidance", "middle"), [c.guidance for c in row], [c.guidance for c in tied])
    closest = min(abs(c.guidance - scale) for c in row)
    row = [c for c in row if abs(c.guidance - scale) == closest]
    for axis in dict.fromkeys((*named, *decisive[:1])):
        row = _along(suite, axis, row, [c for c in tied if c.guidance in {r.guidance for r in row}])
    return Pick(cell=max(row, key=_mean), free=free, near=len(near))


def _along(suite: Suite, axis: str, row: Sequence[Scored], tied: Sequence[Scored]) -> list[Scored]:
    """Those of a row with the preferred value of an axis; the middle is that of the tied cells."""
    values = {c.name: float(c.axes[axis]) for c in suite.candidates}
    target = _target(sides_of_pick(suite).get(axis, "middle"), [values[c.candidate] for c in row],
                     [values[c.candidate] for c in tied])
    closest = min(abs(values[c.candidate] - target) for c in row)
    return [c for c in row if abs(values[c.candidate] - target) == closest]


def scales_apart(suite: Suite) -> bool:
    """Whether some candidates are sampled at other guidance scales than the rest."""
    return len({frozenset(map(float, grid_of(suite, c).guidance_scales)) for c in suite.candidates}) > 1


def _target(side: str, near: Sequence[float], tied: Sequence[float]) -> float:
    """The value to come close to: an end of those near the best, or the middle of all tied ones."""
    return min(near) if side == "lowest" else max(near) if side == "highest" else (min(tied) + max(tied)) / 2


def own_guidances(cells: Sequence[Scored]) -> dict[str, float]:
    """For each candidate the guidance at which it is best on the select split, of the cells no constraint rules out.

    By the paired difference from the best cell, which is fair also where looks of a race dropped cells after unequal numbers of
    prompts; cells that lack images for another reason do not count."""
    best: dict[str, Scored] = {}
    for c in cells:
        if (c.complete or c.dropped) and not c.ruled_out and c.behind.mean is not None and (
                c.candidate not in best or c.behind.mean > (best[c.candidate].behind.mean or 0.0)):
            best[c.candidate] = c
    return {name: c.guidance for name, c in best.items()}


def _mean(cell: Scored) -> float:
    """The mean objective of a cell, for ranking; cells without one are never ranked."""
    return -math.inf if cell.objective.mean is None else cell.objective.mean
