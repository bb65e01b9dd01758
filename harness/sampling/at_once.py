"""Batches that are computed at once, in threads of their own where images are small."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from harness.declare import Grid
from harness.sampling.batches import side_by_side
from harness.sampling.branches import LiveBranch, entered
from harness.sampling.denoise import Denoising
from harness.sampling.text import TextState
from harness.savers.attention import chooses_kernel
from harness.weights.linear_kernels import quick_linears

if TYPE_CHECKING:
    from harness.materialise import Phase
    from harness.weights import Pipeline

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


def workers_of(pipeline: Pipeline, grid: Grid, device: str = "") -> int:
    """How many batches may run at once, on the pipeline's device unless another one is given. A diffusers pipeline sets up its
    tokenizers in every call, and a compiled denoiser compiles in its first calls; two threads must not do either at once. A
    denoiser that chooses attention kernels chooses them for the VAE of another thread too."""
    if pipeline.called is not None or hasattr(pipeline.denoiser, "_orig_mod") or chooses_kernel(pipeline.denoiser):
        return 1
    return side_by_side(grid, device or str(pipeline.device))


def run_phases(phases: Sequence[Phase], steps: int, under_way: Sequence[Denoising], texts: Mapping[str, TextState],
               workers: int, *, quick: bool = True) -> None:
    """Runs batches that have begun through all phases together."""
    for phase, stop in zip(phases, [*(later.first for _, later in pairwise(phases)), steps], strict=True):
        branches = entered(phase, texts)
        with quick_denoisers(branches) if quick else nullcontext():
            for _ in ahead_of(partial(_advance, branches=branches, until=stop), under_way, workers):
                pass


def quick_denoisers(branches: Sequence[LiveBranch]) -> AbstractContextManager[None]:
    """Within the block the denoisers' linear layers use the faster of two libraries on a CPU, with the same bits."""
    return quick_linears(*(branch.pipeline.denoiser for branch in branches if branch.pipeline.device.type == "cpu"))


def _advance(run: Denoising, branches: Sequence[LiveBranch], until: int) -> None:
    run.advance(branches, until)


def ahead_of(make: Callable[[_Item], _Made], items: Iterable[_Item], workers: int) -> Iterator[_Made]:
    """The results of `make` for the items, in order, with `workers` of them computed at once and a few ahead."""
    if workers == 1:
        yield from map(make, items)
        return
    pool = pool_of_single_threads(workers)
    try:
        ahead: deque[Future[_Made]] = deque()
        for item in items:
            ahead.append(pool.submit(make, item))
            if len(ahead) > workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def pool_of_single_threads(workers: int) -> ThreadPoolExecutor:
    """A thread pool whose threads run torch's operations on one thread each; torch keeps this setting per thread."""
    import torch

    return ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
