"""What the looks of a race asked for and what they dropped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.declare import Suite, grid_of
from harness.records import Cell, Dropped, Look, cells_of

SEARCH = "search"


@dataclass(frozen=True, kw_only=True)
class Exit:
    """When a candidate went out of a race: at which look, and by what the last of its cells was behind the best."""

    look: int
    last: Dropped


def asked(suite: Suite, looks: Iterable[Look]) -> dict[str, set[Cell]]:
    """By candidate the cells that the looks asked for: of a candidate with guidance scales of its own, those at its own."""
    scales = _own_scales(suite)
    cells_by_name: dict[str, set[Cell]] = {}
    for look in looks:
        cells = list(cells_of(look))
        for name in look.candidates:
            own = scales.get(name)
            cells_by_name.setdefault(name, set()).update(
                cells if own is None else (cell for cell in cells if cell.guidance in own))
    return cells_by_name


def _own_scales(suite: Suite) -> dict[str, frozenset[float]]:
    """The guidance scales of each candidate. One that is not declared, which a search only tries, has those it is asked for."""
    return {c.name: frozenset(map(float, grid_of(suite, c).guidance_scales)) for c in suite.candidates}


def dropped_cells(looks: Iterable[Look]) -> dict[tuple[str, float], tuple[Look, Dropped]]:
    """By candidate and guidance, the look that dropped the cell."""
    return {(cell.candidate, float(cell.guidance)): (look, cell) for look in looks for cell in look.dropped}


def exits(suite: Suite, looks: Sequence[Look]) -> dict[str, Exit]:
    """By name the candidates that were raced and of which no guidance is left. A candidate that always stays among what is
    sampled, like the baseline, is out as well when all its cells were dropped: it cannot be the pick any more."""
    dropped = dropped_cells(looks)
    raced = {name: {float(g) for look in looks if look.stage != SEARCH and name in look.candidates for g in look.guidances} & own
             for name, own in _own_scales(suite).items()}
    exit_by_name = {}
    for name, scales in raced.items():
        gone = [dropped[name, g] for g in scales if (name, g) in dropped]
        if scales and len(gone) == len(scales):
            look, last = max(gone, key=lambda one: (one[0].number, -math.inf if one[1].mean is None else one[1].mean))
            exit_by_name[name] = Exit(look=look.number, last=last)
    return exit_by_name


def last_candidates(looks: Sequence[Look]) -> tuple[str, ...]:
    """Those who were sampled up to the end: the candidates of the last look of the select prompts, and of all looks after it."""
    common = [look for look in looks if look.stage in ("select", "refine")]
    ended = common[-1].number if common else 0
    return tuple(dict.fromkeys(name for look in looks if look.number >= ended and look.stage != SEARCH
                               for name in look.candidates))
