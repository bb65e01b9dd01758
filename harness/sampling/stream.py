"""Samples batches in order: several at once, with switches between phases. The timing samples one image at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from harness.declare import Grid
from harness.declare.stages import stage_name
from harness.post import PostProcess
from harness.probes.clock import Stopwatch
from harness.records import Cell
from harness.sampling.arriving import Arriving, Images, arrived
from harness.sampling.batches import side_by_side
from harness.sampling.branches import LiveBranch, entered
from harness.sampling.denoise import Denoising, Start, at_once, called, decode
from harness.sampling.hand_over import (
    StagePictures,
    from_latents,
    from_pictures,
    needs_first_stage,
    needs_pictures,
    resized_pictures,
)
from harness.sampling.text import TextState, at_text, encode

if TYPE_CHECKING:
    import torch

    from harness.materialise import LiveStage, Phase
    from harness.weights import Pipeline

BATCHES_PER_SWITCH: Final = 32
"""With several phases, this many batches go through one phase before the weights are switched. Switches are then rare, and the
unfinished batches fit into memory (32 batches of 16 latents of a 1024 x 1024 image are 134 MB)."""

MOST_WAITING_BYTES: Final = 256 << 20
"""Of pictures that wait between two stages."""

LENDING: Final = "lending"
"""The stopwatch's name for bringing text encoders to the device and freeing their place. It is no part of an image's latency: in
use they stay where they are needed."""

Batch = tuple[Cell, ...]
_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


Broken: TypeAlias = Callable[[Cell, str], None]
"""Called with a cell whose image is unusable, and the reason."""
Beside: TypeAlias = Callable[[Batch, str, Images], None]
"""Called with a batch, the name of a stage that is not the last, and its pictures."""


@dataclass(frozen=True, kw_only=True)
class Later:
    """The stages after the first, and who is given the pictures that they begin from."""

    stages: Sequence[LiveStage]
    beside: Beside | None = None
    broken: Broken | None = None


def sample(phases: Sequence[Phase], grid: Grid, todo: Iterable[Batch], texts: Mapping[str, TextState],
           broken: Broken | None = None, later: Later | None = None) -> Iterator[tuple[Batch, Images]]:
    """Yields each batch of `todo` with its images, in order. `texts` holds the embeddings of every branch by its
    `text_identity`. Every step runs in the phase it belongs to, whatever else is in progress. Without `broken`, an unusable
    image raises SamplingError. `later` are the stages after the first."""
    def collect(cells: Batch, arriving: Arriving) -> Images:
        return arriving.images(_of(cells, broken))

    if later is not None and later.stages:
        waiting = iter(todo)
        while group := list(islice(waiting, _batches_per_switch(grid, later.stages))):
            yield from arrived(_staged(phases, grid, group, texts, replace(later, broken=broken)), collect)
        return
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
    _run(phases, grid.steps, under_way, texts, workers)
    yield from _ahead(lambda run: (run.cells, decode(pipeline, run.latents)), under_way, workers)


def _run(phases: Sequence[Phase], steps: int, under_way: Sequence[Denoising], texts: Mapping[str, TextState],
         workers: int) -> None:
    """Runs batches that have begun through all phases together."""
    for phase, stop in zip(phases, [*(later.first for _, later in pairwise(phases)), steps], strict=True):
        for _ in _ahead(partial(_advance, branches=entered(phase, texts), until=stop), under_way, workers):
            pass


def _batches_per_switch(grid: Grid, stages: Sequence[LiveStage]) -> int:
    """With several stages, how many batches go through one of them together: their pictures wait in main memory."""
    pixels = max(one.width * one.height for one in (grid, *(stage.grid for stage in stages)))
    return max(1, min(BATCHES_PER_SWITCH, MOST_WAITING_BYTES // (3 * pixels * grid.images_per_batch)))


def _staged(phases: Sequence[Phase], grid: Grid, group: Sequence[Batch], texts: Mapping[str, TextState],
            later: Later) -> Iterator[tuple[Batch, Arriving]]:
    """A group of batches through all stages together: each begins when all batches have gone through the one before."""
    pipeline = phases[0].enter()
    workers = _workers(pipeline, grid)
    under_way = list(_ahead(lambda cells: Denoising(pipeline, grid, cells), group, workers))
    _run(phases, grid.steps, under_way, texts, workers)
    pictures: Sequence[StagePictures] = [StagePictures()] * len(group)
    for stage in later.stages:
        made = _pictures(pipeline, stage, list(zip(group, under_way, pictures, strict=True)), later)
        pictures = [images.after(before, stage) for before, images in zip(pictures, made, strict=True)]
        pipeline = stage.phases[0].enter()
        workers = _workers(pipeline, grid)
        begin = partial(_begun, pipeline, stage)
        under_way = list(_ahead(begin, list(zip(group, under_way, (of.begun_from for of in pictures), strict=True)), workers))
        _run(stage.phases, stage.grid.steps, under_way, texts, workers)
    yield from _ahead(lambda one: (one[0], one[2].coloured(decode(pipeline, one[1].latents))),
                      list(zip(group, under_way, pictures, strict=True)), workers)


def _pictures(pipeline: Pipeline, stage: LiveStage, before: Sequence[tuple[Batch, Denoising, StagePictures]],
              later: Later) -> list[StagePictures]:
    """The pictures of the stage before `stage`, by batch; without any where nobody asks for them."""
    if not needs_pictures(stage) and later.beside is None:
        return [StagePictures()] * len(before)
    workers = 1 if pipeline.device.type == "cuda" else _workers(pipeline, stage.grid)
    made: list[StagePictures] = []
    for cells, arriving in _ahead(lambda one: (one[0], one[2].coloured(decode(pipeline, one[1].latents))), before, workers):
        images = arriving.images(_of(cells, later.broken))
        if later.beside is not None:
            later.beside(cells, stage_name(stage.number - 1), images)
        made.append(StagePictures(begun_from=images))
    return made


def _begun(pipeline: Pipeline, stage: LiveStage, before: tuple[Batch, Denoising, Images | None]) -> Denoising:
    """A batch at the beginning of a later stage."""
    cells, run, images = before
    start = Start(latents=handed_over(pipeline, stage, run.latents, images), stage=stage.number, of_steps=stage.of_steps,
                  pictures=followed_pictures(stage, images))
    return Denoising(pipeline, stage.grid, stage.cells(cells), start)


def handed_over(pipeline: Pipeline, stage: LiveStage, latents: torch.Tensor, images: Images | None) -> torch.Tensor:
    """The latents with which a stage begins, of what the stage before has made."""
    size = stage.grid.width, stage.grid.height
    if stage.through == "latents" or images is None:
        return from_latents(pipeline, latents, size)
    return from_pictures(pipeline, images, size, stage.resize, at_once(pipeline))


def followed_pictures(stage: LiveStage, images: Images | None) -> Images | None:
    """The pictures that a control of a stage follows, in the size of the stage; None where none does."""
    if not stage.followed or images is None:
        return None
    # Latents that are resized have no pictures of the new size.
    method = "lanczos" if stage.resize == "latent" else stage.resize
    return resized_pictures(images, (stage.grid.width, stage.grid.height), method)


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


def time_one(phases: Sequence[Phase], grid: Grid, cell: Cell, watch: Stopwatch, stages: Sequence[LiveStage] = (),
             post: PostProcess | None = None) -> None:
    """Samples one image at batch 1 as a user would, with each phase timed by `watch`: text, denoise, decode, and switch if the
    adapters change between steps, "post" for the post-steps, and `LENDING`. Those of a later stage are named after it, as
    "stage 2 denoise"; "stage 2 begin" is what it takes to hand over the picture or the latents."""
    pipeline = phases[0].enter()
    if pipeline.called is not None:
        prompt = next(p for p in grid.prompts if p.id == cell.prompt)
        with _encoders_there(pipeline, watch), watch.phase("text"):
            text = encode(pipeline, [prompt], negatives=cell.guidance != 1)
        with watch.phase("denoise"):
            latents = called(pipeline, grid, (cell,), text)
        with watch.phase("decode"):
            made = decode(pipeline, latents).images()
        _timed_post(post, made, None, watch)
        return
    with watch.phase("denoise"):
        run = Denoising(pipeline, grid, (cell,))
    _timed_run(run, phases, grid, watch, "", switches=len(phases) > 1)
    pictures = StagePictures()
    of_first = any(needs_first_stage(steps) for steps in (post, *(stage.before for stage in stages)))
    for stage in stages:
        kept = StagePictures()
        if needs_pictures(stage) or (of_first and pictures.first is None):
            with watch.phase(f"{stage.name} begin"):
                kept = StagePictures(begun_from=pictures.coloured(decode(pipeline, run.latents)).images())
        pictures = kept.after(pictures, stage)
        with watch.phase(f"{stage.name} switch"):
            pipeline = stage.phases[0].enter()
        with watch.phase(f"{stage.name} begin"):
            run = _begun(pipeline, stage, ((cell,), run, pictures.begun_from))
        _timed_run(run, stage.phases, stage.grid, watch, f"{stage.name} ", switches=True)
    with watch.phase("decode"):
        finished = pictures.coloured(decode(pipeline, run.latents)).images()
    _timed_post(post, finished, pictures.first, watch)


def _timed_post(post: PostProcess | None, images: Images, first: Images | None, watch: Stopwatch) -> None:
    if post is not None:
        with watch.phase("post"):
            post.apply(images[0], images[0] if first is None else first[0])


def _timed_run(run: Denoising, phases: Sequence[Phase], grid: Grid, watch: Stopwatch, stage: str, *, switches: bool) -> None:
    """Runs a batch of one that has begun through its phases. `stage` begins the names of what is timed."""
    (cell,) = run.cells
    prompt = next(p for p in grid.prompts if p.id == cell.prompt)
    for phase, stop in zip(phases, [*(after.first for _, after in pairwise(phases)), grid.steps], strict=True):
        if switches:
            with watch.phase(f"{stage}switch"):
                phase.enter()
        texts: dict[str, TextState] = {}
        for branch in phase.branches:
            if branch.text_identity in texts:
                continue
            pipeline = branch.enter()
            with _encoders_there(pipeline, watch), watch.phase(f"{stage}text"):
                texts[branch.text_identity] = encode(pipeline, [prompt], branch.treatment, steps=grid.steps,
                                                     negatives=cell.guidance != 1)
        branches = entered(phase, texts)
        with watch.phase(f"{stage}denoise"):
            run.advance(branches, stop, around=lambda: watch.phase("step"))


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
