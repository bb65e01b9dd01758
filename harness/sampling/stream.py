"""Samples batches in order: several at once, with switches between phases. The timing samples one image at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from harness.declare import Grid
from harness.probes.clock import Stopwatch
from harness.records import Cell
from harness.sampling.arriving import Arriving, Images, arrived
from harness.sampling.batches import side_by_side
from harness.sampling.branches import LiveBranch, entered
from harness.sampling.denoise import Denoising, called, decode
from harness.sampling.text import TextState, at_text, encode

if TYPE_CHECKING:
    from harness.materialise import Phase
    from harness.weights import Pipeline

BATCHES_PER_SWITCH: Final = 32
"""With several phases, this many batches go through one phase before the weights are switched. Switches are then rare, and the
unfinished batches fit into memory (32 batches of 16 latents of a 1024 x 1024 image are 134 MB)."""

LENDING: Final = "lending"
"""The stopwatch's name for bringing text encoders to the device and freeing their place. It is no part of an image's latency: in
use they stay where they are needed."""

Batch = tuple[Cell, ...]
_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


Broken: TypeAlias = Callable[[Cell, str], None]
"""Called with a cell whose image is unusable, and the reason."""


def sample(phases: Sequence[Phase], grid: Grid, todo: Iterable[Batch], texts: Mapping[str, TextState],
           broken: Broken | None = None) -> Iterator[tuple[Batch, Images]]:
    """Yields each batch of `todo` with its images, in order. `texts` holds the embeddings of every branch by its
    `text_identity`. Every step runs in the phase it belongs to, whatever else is in progress. Without `broken`, an unusable
    image raises SamplingError."""
    def collect(cells: Batch, arriving: Arriving) -> Images:
        return arriving.images(_of(cells, broken))

    if len(phases) == 1:
        branches = entered(phases[0], texts)
        pipeline = branches[0].pipeline

        def make(cells: Batch) -> tuple[Batch, Arriving]:
            if pipeline.called is not None:
                return cells, decode(pipeline, called(pipeline, grid, cells, branches[0].text))
            run = Denoising(pipeline, grid, cells)
            run.advance(branches)
            return cells, decode(pipeline, run.latents)

        yield from arrived(_ahead(make, todo, _workers(pipeline, grid)), collect)
        return
    waiting = iter(todo)
    while group := list(islice(waiting, BATCHES_PER_SWITCH)):
        yield from arrived(_switched(phases, grid, group, texts), collect)


def _workers(pipeline: Pipeline, grid: Grid) -> int:
    """How many batches may run at once. A diffusers pipeline sets up its tokenizers in every call, and a compiled denoiser
    compiles in its first calls; two threads must not do either at once."""
    if pipeline.called is not None or hasattr(pipeline.denoiser, "_orig_mod"):
        return 1
    return side_by_side(grid, str(pipeline.device))


def _of(cells: Batch, broken: Broken | None) -> Callable[[int, str], None] | None:
    return None if broken is None else lambda place, why: broken(cells[place], why)


def _switched(phases: Sequence[Phase], grid: Grid, group: Sequence[Batch],
              texts: Mapping[str, TextState]) -> Iterator[tuple[Batch, Arriving]]:
    """A group of batches through all phases together."""
    pipeline = phases[0].enter()
    workers = _workers(pipeline, grid)
    under_way = list(_ahead(lambda cells: Denoising(pipeline, grid, cells), group, workers))
    for phase, stop in zip(phases, [*(later.first for _, later in pairwise(phases)), grid.steps], strict=True):
        for _ in _ahead(partial(_advance, branches=entered(phase, texts), until=stop), under_way, workers):
            pass
    yield from _ahead(lambda run: (run.cells, decode(pipeline, run.latents)), under_way, workers)


def _advance(run: Denoising, branches: Sequence[LiveBranch], until: int) -> None:
    run.advance(branches, until)


def _ahead(make: Callable[[_Item], _Made], items: Iterable[_Item], workers: int) -> Iterator[_Made]:
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


def time_one(phases: Sequence[Phase], grid: Grid, cell: Cell, watch: Stopwatch) -> None:
    """Samples one image at batch 1 as a user would, with each phase timed by `watch`: text, denoise, decode, and switch if the
    adapters change between steps, and `LENDING`."""
    prompt = next(p for p in grid.prompts if p.id == cell.prompt)
    stops = [*(later.first for _, later in pairwise(phases)), grid.steps]
    pipeline = phases[0].enter()
    if pipeline.called is not None:
        with _encoders_there(pipeline, watch), watch.phase("text"):
            text = encode(pipeline, [prompt], negatives=cell.guidance != 1)
        with watch.phase("denoise"):
            latents = called(pipeline, grid, (cell,), text)
        with watch.phase("decode"):
            decode(pipeline, latents).images()
        return
    with watch.phase("denoise"):
        run = Denoising(pipeline, grid, (cell,))
    for phase, stop in zip(phases, stops, strict=True):
        if len(phases) > 1:
            with watch.phase("switch"):
                phase.enter()
        texts: dict[str, TextState] = {}
        for branch in phase.branches:
            if branch.text_identity in texts:
                continue
            pipeline = branch.enter()
            with _encoders_there(pipeline, watch), watch.phase("text"):
                texts[branch.text_identity] = encode(pipeline, [prompt], branch.treatment, steps=grid.steps,
                                                     negatives=cell.guidance != 1)
        branches = entered(phase, texts)
        with watch.phase("denoise"):
            run.advance(branches, stop, around=lambda: watch.phase("step"))
    with watch.phase("decode"):
        decode(pipeline, run.latents).images()


@contextmanager
def _encoders_there(pipeline: Pipeline, watch: Stopwatch) -> Iterator[None]:
    if pipeline.device.type == "cpu":
        yield
        return
    with ExitStack() as lending:
        with watch.phase(LENDING):
            lending.enter_context(at_text(pipeline))
        yield
        with watch.phase(LENDING):
            lending.close()
