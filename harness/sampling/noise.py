"""The noise that an image begins with: drawn on the CPU from its cell's seed, the same for every candidate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from harness.declare import Grid
from harness.records import Cell
from harness.weights import latent_shape
from harness.weights.upload import sent

if TYPE_CHECKING:
    import torch

    from harness.weights import Pipeline


def generators(cells: Iterable[Cell], stage: int = 0) -> list[torch.Generator]:
    """One generator per cell, on the CPU, seeded from the cell and for a later stage from its number: its draws never depend on
    batch, device or order."""
    import torch

    return [torch.Generator("cpu").manual_seed(cell.stage_seed(stage) if stage else cell.noise_seed) for cell in cells]


def initial_noise(pipeline: Pipeline, grid: Grid, cells: Iterable[Cell],
                  drawing: Sequence[torch.Generator] | None = None) -> torch.Tensor:
    """Standard normal latents (n, channels, height / f, width / f), fp32: each drawn on the CPU by its cell's generator."""
    import torch

    shape = latent_shape(pipeline, grid.width, grid.height)
    drawn = [torch.randn(shape, generator=generator) for generator in drawing or generators(cells)]
    return sent(torch.stack(drawn), pipeline.device)
