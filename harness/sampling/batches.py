"""The batches of a grid: the properties that determine the bits of images, and how many batches are computed at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from harness.declare import Grid
from harness.declare.effective_grid import sampled_as
from harness.records import Cell
from harness.samplers import SAMPLERS
from harness.sampling.determinism import ARITHMETIC

SAMPLING_VERSION: Final = 2
"""Part of every image's key. Raise it when the same inputs give other images."""

DEVICE_MODEL: Final = "device_model"
"""In the sampling block of a run on CUDA: the name of the GPU, which is in the keys of its images."""
SMALL_BATCH_PIXELS: Final = 64 * 64 * 64
"""A batch of up to this many pixels counts as small: 64 images of 64 x 64."""


def kinds(grid: Grid) -> tuple[tuple[Cell, ...], ...]:
    """The cells of a grid by what can share a batch, each kind in the order in which cells are listed everywhere.

    Cells at guidance 1 are apart, because they need no negative branch. With a flow sampler each guidance scale is: diffusers'
    pipelines take one for a batch, and a smaller batch has other last bits.
    """
    scales = list(dict.fromkeys(grid.guidance_scales))
    apart = [[scale] for scale in scales if scale == 1]
    guided = [scale for scale in scales if scale != 1]
    groups = [*apart, *([[scale] for scale in guided] if SAMPLERS[grid.sampler].flow else [guided])]
    return tuple(tuple(Cell(prompt=p.id, seed=s, guidance=g) for p in grid.prompts for s in grid.seeds
                       for g in grid.guidance_scales if g in group) for group in groups if group)


def batches(grid: Grid) -> tuple[tuple[Cell, ...], ...]:
    """The grid cut into batches of at most `grid.images_per_batch` cells of one kind, in the order in which cells are
    listed everywhere. A run samples only the missing cells, packed into batches of the full shape."""
    return tuple(part[start:start + grid.images_per_batch]
                 for part in kinds(grid) for start in range(0, len(part), grid.images_per_batch))


def setting(grid: Grid, device: str, model: str = "") -> dict[str, Any]:
    """The sampling block of an effective grid: everything besides weights, texts and noise that determines an image. See
    records.sample_key. That of a suite's own grid is in run.json; see `sampling_block` for a candidate's. `model` is the name of
    a GPU: another one has other kernels, and other last bits."""
    kind = device.partition(":")[0]
    # On a CPU there is nothing to choose, and keys are what they were.
    arithmetic = {"arithmetic": ARITHMETIC, **({DEVICE_MODEL: model} if model else {})} if kind == "cuda" else {}
    tiled = {"decoding": "tiled"} if "tiled_decoding" in grid.low_memory else {}
    return {**sampled_as(grid), "batch_size": grid.images_per_batch, "device": kind, "version": SAMPLING_VERSION, **arithmetic,
            **tiled}


def small(grid: Grid, device: str) -> bool:
    """Whether images are small and sampled on a CPU: then every operation uses one thread, and whole batches run in parallel.

    Small tensors gain nothing from threads inside an operation, and on a busy machine these threads wait for each other at
    each of thousands of operations. One thread each is as fast on an idle machine, many times faster on a busy one, and the
    bits do not depend on the number of cores. Only the grid decides.
    """
    return device.partition(":")[0] == "cpu" and grid.images_per_batch * grid.width * grid.height <= SMALL_BATCH_PIXELS


def threads_per_operation(grid: Grid, device: str) -> int | str:
    """The number of threads of an operation, as run.json has it."""
    return 1 if small(grid, device) else "torch's default"


def side_by_side(grid: Grid, device: str) -> int:
    """How many batches are computed at once: one per core for small images on a CPU, otherwise one."""
    return cores() if small(grid, device) else 1


def cores() -> int:
    """The number of cores that this process may use. The variable is Python's own since 3.13; processes that share the cores of
    a machine are told their share by it."""
    share = os.environ.get("PYTHON_CPU_COUNT", "")
    if share.isascii() and share.isdigit() and int(share):
        return int(share)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def threads_for(grid: Grid, device: str) -> Iterator[None]:
    """Within the block, operations of this grid's pipeline and metrics use one thread if `small`, else torch's default."""
    import torch

    threads = torch.get_num_threads()
    try:
        if small(grid, device):
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)
