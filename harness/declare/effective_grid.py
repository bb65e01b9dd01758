"""The effective grid of a candidate: what its suite's grid says, and what it says itself of how it is sampled."""

from __future__ import annotations

from dataclasses import replace

from harness.declare.sampling import GRID_FIELDS, NEUTRAL, Sampling
from harness.declare.suite import Candidate, Grid, Suite


def grid_of(declared: Suite | Grid, candidate: Candidate | None = None) -> Grid:
    """The effective grid of a candidate: the grid of its suite with what its `sampling` says, field by field. The remaining knobs
    are in the result's `sampling`, which is None where all have their defaults."""
    grid = declared.grid if isinstance(declared, Suite) else declared
    own = {} if candidate is None or candidate.sampling is None else candidate.sampling.given
    if not own and grid.sampling is None:
        return grid
    knobs = {**({} if grid.sampling is None else grid.sampling.given), **own}
    replaced = {GRID_FIELDS[name]: value for name, value in own.items() if name in GRID_FIELDS}
    rest = {name: value for name, value in knobs.items() if name not in GRID_FIELDS and value != NEUTRAL.get(name)}
    return replace(grid, **replaced, sampling=Sampling(**rest) if rest else None)
