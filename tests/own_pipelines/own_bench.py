"""A tiny folder sampled as a suite would, and by diffusers' own call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

from harness import Candidate, Grid, Prompt
from harness.materialise import Prepared, Workbench
from harness.own_pipelines import OWN
from harness.records import Cell
from harness.sampling import batches, embedded, sample
from tests.tiny_pipelines import TINY

PROMPTS = (Prompt(id="short", text="a red cat", negative="blur"), Prompt(id="long", text="the blue house on the green hill"))

_SLOW = ("GlmImagePipeline", "Ideogram4Pipeline")
"""They write hundreds of tokens for an image, or read thousands."""


def grid_for(name: str, **fields: Any) -> Grid:
    """A small grid that a pipeline class takes; `fields` in place of its own."""
    row, call = OWN[name], TINY[name].call
    prompts = PROMPTS if row.negative else tuple(Prompt(id=p.id, text=p.text) for p in PROMPTS)
    slow = call.get("width", 32) > 64 or name in _SLOW
    scales = (1.0, 3.0) if row.guidance else (1.0,)
    seeds = (0,) if slow else (0, 1)
    return Grid(**{"prompts": prompts, "seeds": seeds, "guidance_scales": scales, "sampler": "own", "steps": 2,
                   "width": call.get("width", 32), "height": call.get("height", 32), "batch_size": 4, **fields})


def prepared(candidate: Candidate, grid: Grid, root: Path = Path("/")) -> Prepared:
    """The candidate, live on the CPU."""
    return Workbench.for_grid(grid, device="cpu", root=root).prepare(candidate)


def images_of(made: Prepared, grid: Grid) -> dict[Cell, np.ndarray[Any, Any]]:
    """The images of all cells of a grid."""
    texts = embedded(made.phases, grid.prompts, steps=grid.steps)
    return {cell: image for cells, images in sample(made.phases, grid, batches(grid), texts)
            for cell, image in zip(cells, images, strict=True)}


def sampled(folder: Path, grid: Grid, **fields: Any) -> dict[Cell, np.ndarray[Any, Any]]:
    """The images of a candidate whose model is a folder."""
    return images_of(prepared(Candidate(**{"name": "m", "model": str(folder), **fields}), grid), grid)


def by_diffusers(pipe: Any, grid: Grid, cell: Cell) -> np.ndarray[Any, Any]:
    """The image of a cell by a call of a diffusers pipeline for it alone."""
    name = type(pipe).__name__
    row = OWN[name]
    prompt = next(p for p in grid.prompts if p.id == cell.prompt)
    given: dict[str, Any] = {"prompt": prompt.text, "num_inference_steps": grid.steps, "width": grid.width, "height": grid.height,
                             "generator": torch.Generator().manual_seed(cell.noise_seed), "output_type": "np", **row.settings}
    if row.guidance:
        given[row.guidance] = row.off if cell.guidance == 1 else cell.guidance
    if row.negative and cell.guidance != 1:
        given["negative_prompt"] = prompt.negative
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cell.noise_seed)
        result = pipe(**given)[0]
    levels: np.ndarray[Any, Any] = (np.asarray(result)[0, ..., :3] * 255).round().astype(np.uint8)
    return levels


def diffusers_pipeline(name: str, folder: Path) -> Any:
    """The folder as diffusers itself loads it."""
    pipe = getattr(diffusers, name).from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def apart(one: Mapping[Cell, Any], other: Mapping[Cell, Any], cells: Sequence[Cell] | None = None) -> int:
    """By how many of 255 levels images differ at most."""
    return max(int(abs(one[cell].astype(int) - other[cell].astype(int)).max()) for cell in cells or one)
