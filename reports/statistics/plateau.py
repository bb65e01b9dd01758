"""The plateau of a surface and the pick on it: all points that cannot be distinguished from the best, and the preferred one.
Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from harness.declare import SIDES
from reports.statistics.intervals import LEVEL
from reports.statistics.surface import Surface

PREFERENCES: Final[Mapping[str, str]] = {"guidance": "lowest"}
"""The side of a plateau to prefer, as an objective does that says nothing else: low guidance because alignment scores flatter
high guidance, the middle of any other axis because it is safest from the edges."""
NAMES: Final[Mapping[str, str]] = {"guidance": "CFG"}


@dataclass(frozen=True, kw_only=True)
class SweetSpot:
    """A pick on a surface: rows of Surface.points. `behind` is how far it is below the best on the surface, `uncertain`
    the standard deviation of that; `near` (within one standard deviation of the best) and `plateau` have one flag for each
    point."""

    best: int
    pick: int
    near: NDArray[np.bool_]
    plateau: NDArray[np.bool_]
    behind: float
    uncertain: float
    sentence: str


def sweet_spot(surface: Surface, prefer: Mapping[str, str] = PREFERENCES, level: float = LEVEL,
               eligible: NDArray[np.bool_] | None = None) -> SweetSpot:
    """The plateau and the pick, of the points that are `eligible` (all by default; one flag for each point).

    The plateau holds the points whose difference from the best is less than the normal quantile of `level` (two-sided)
    times its standard deviation on the surface. The pick is taken from those within one standard deviation (the
    one-standard-error rule), by `prefer`: axes with a side first, in their order, then the rest as near as can be to the
    middle of the plateau, ties to the higher value. Raises ValueError for a preference that is not one of SIDES, and
    when no point is eligible.
    """
    if wrong := [f"{axis}={side!r}" for axis, side in prefer.items() if side not in SIDES]:
        raise ValueError(f"a preference is one of {', '.join(SIDES)}, not {wrong[0]}")
    free = np.ones(len(surface.mean), dtype=np.bool_) if eligible is None else eligible
    if not free.any():
        raise ValueError("no point of the surface is eligible: there is nothing to pick from")
    best = int(np.where(free, surface.mean, -np.inf).argmax())
    behind, spread = surface.behind(best)
    near, plateau = free & (behind <= spread), free & (behind <= float(norm.ppf((1 + level) / 2)) * spread)
    near[best] = plateau[best] = True
    rows = np.flatnonzero(near)
    sided = sorted(range(len(surface.axes)), key=lambda i: _side(surface, i, prefer) == "middle")
    for i in sided:
        values, side = surface.points[:, i], _side(surface, i, prefer)
        whole = values[plateau]
        target = {"lowest": values[rows].min(), "highest": values[rows].max()}.get(side, (whole.min() + whole.max()) / 2)
        distance = np.abs(values[rows] - target)
        rows = rows[distance <= distance.min() + 1e-9]
    pick = int(rows[surface.mean[rows].argmax()])
    return SweetSpot(best=best, pick=pick, near=near, plateau=plateau, behind=float(behind[pick]),
                     uncertain=float(spread[pick]), sentence=_sentence(surface, (best, pick), (near, plateau), prefer))


def _side(surface: Surface, axis: int, prefer: Mapping[str, str]) -> str:
    return prefer.get(surface.axes[axis], "middle")


def _sentence(surface: Surface, places: tuple[int, int], flags: tuple[NDArray[np.bool_], NDArray[np.bool_]],
              prefer: Mapping[str, str]) -> str:
    (best, pick), (near, plateau) = places, flags
    spans = []
    for name, values in zip(surface.axes, surface.points[plateau].T, strict=True):
        low, high = float(values.min()), float(values.max())
        spans.append(f"{NAMES.get(name, name)} {low:g}–{high:g}" if low < high else f"{NAMES.get(name, name)} {low:g}")
    count = int(near.sum())
    close = f"{count} settings are as good as the surface's best within its uncertainty; of these" if count > 1 else "of all"
    why = [f"the {_side(surface, i, prefer)} {NAMES.get(name, name)}" for i, name in enumerate(surface.axes)]
    size = f"{int(plateau.sum())} of {len(plateau)} points"
    return (f"{place(surface, pick)}: {' and '.join(spans)} ({size}) did about as well as the best point of the surface, "
            f"{place(surface, best)}; {close} we took {' and '.join(why)}.")


def place(surface: Surface, row: int) -> str:
    """A point in words: "alpha 0.5 at CFG 3"."""
    return " at ".join(f"{NAMES.get(name, name)} {value:g}" for name, value in
                       zip(surface.axes, surface.points[row].tolist(), strict=True))
