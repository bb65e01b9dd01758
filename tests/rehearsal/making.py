"""Candidates and their images on any device, for the rehearsals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness import Adapter, Candidate, Merge
from harness.declare import Grid
from harness.materialise import Phase, Workbench
from harness.records import Cell
from harness.sampling import embedded, pack, sample
from tests.fakes import tiny_grid

MIDDLE = Merge(a="zoo:photo", b="zoo:anime", alpha=0.5)


def candidate(**changes: Any) -> Candidate:
    """A candidate on the zoo's base model, in float32 on every device unless it says otherwise."""
    return Candidate(**{"name": "c", "model": "zoo:base", "quantization": "fp32", **changes})


def sketch(kind: str = "", **changes: Any) -> tuple[Adapter, ...]:
    """The zoo's sketch adapter of one kind."""
    return (Adapter(path="zoo:sketch" + kind, **changes),)


def images(bench: Workbench, of: Candidate, grid: Grid | None = None) -> np.ndarray[Any, Any]:
    """Two images of the candidate, in one batch, with guidance."""
    return images_of(bench.prepare(of).phases, grid or tiny_grid(batch_size=2))


def images_of(phases: Sequence[Phase], grid: Grid) -> np.ndarray[Any, Any]:
    """As `images`, of a candidate that is prepared."""
    texts = embedded(phases, grid.prompts[:2])
    cells = [Cell(prompt=prompt.id, seed=1, guidance=grid.guidance_scales[-1]) for prompt in grid.prompts[:2]]
    return np.concatenate([made for _, made in sample(phases, grid, pack(grid, cells), texts)])
