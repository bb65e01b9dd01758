"""Problems of how single candidates are sampled: values that no image can have, and values that have no effect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Final

from harness.declare import Candidate, Grid, Sampling
from harness.declare.sampling import GRID_FIELDS

PENDING: Final = frozenset(spec.name for spec in fields(Sampling))
"""The fields that nothing follows yet. Each leaves this set with the code that follows it."""


def grid_sampling_problems(grid: Grid) -> Iterator[str]:
    """One phrase per problem of the `sampling` of a grid whose fields have the right types."""
    if grid.sampling is None:
        return
    yield from _unmet(grid.sampling)
    yield from (f"sampling: {name} is a field of the grid; set {field} there"
                for name, field in GRID_FIELDS.items() if name in grid.sampling.given)


def candidate_sampling_problems(candidate: Candidate) -> Iterator[str]:
    """One phrase per problem of the `sampling` of a candidate, in a suite whose fields all have the right types."""
    if candidate.sampling is not None:
        yield from _unmet(candidate.sampling)


def _unmet(sampling: Sampling) -> Iterator[str]:
    if not sampling.given:
        yield "sampling sets nothing; remove it"
    yield from (f"sampling: {name} cannot be set yet" for name in sampling.given if name in PENDING)
