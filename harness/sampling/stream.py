"""Samples batches in order, several at once. The timing samples one image at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Final

from harness.declare import Grid
from harness.post import PostProcess
from harness.probes.clock import Stopwatch
from harness.records import Cell
from harness.sampling.arriving import Arriving, Images, arrived
from harness.sampling.at_once import ahead_of, quick_denoisers, workers_of
from harness.sampling.branches import entered
from harness.sampling.denoise import Denoising, called, decode
from harness.sampling.hand_over import StagePictures, needs_first_stage, needs_pictures
from harness.sampling.own import own_images, time_own
from harness.sampling.staged import Batch, Broken, Later, begun, groups_of_batches, staged
from harness.sampling.text import TextState, at_text, encode

if TYPE_CHECKING:
    from harness.materialise import LiveStage, Phase
    from harness.weights import Pipeline

LENDING: Final = "lending"
"""The stopwatch's name for bringing text encoders to the device and freeing their place. It is no part of an image's latency: in
use they stay where they are needed."""


def sample(phases: Sequence[Phase], grid: Grid, todo: Iterable[Batch], texts: Mapping[str, TextState],
           broken: Broken | None = None, later: Later | None = None) -> Iterator[tuple[Batch, Images]]:
    """Yields each batch of `todo` with its images, in order. `texts` holds the embeddings of every branch by its
    `text_identity`. Every step runs in the phase it belongs to, whatever else is in progress. Without `broken`, an unusable
    image raises SamplingError. `later` are the stages after the first."""
    through = replace(later or Later(), broken=broken)

    def collect(cells: Batch, arriving: Arriving) -> Images:
        return through.keep(cells, len(through.stages), arriving)

    if len(phases) > 1 or through.stages or through.common is not None:
        groups: Iterator[Iterator[tuple[Batch, Arriving]]] = (
            staged(phases, grid, group, texts, through) for group in groups_of_batches(phases, grid, todo, through.stages))
        if len(phases) == 1 and not through.stages:  # nothing waits for the end of a group
            groups = iter([chain.from_iterable(groups)])
        for group in groups:
            yield from arrived(group, collect)
        return
    branches = entered(phases[0], texts)
    pipeline = branches[0].pipeline

    def make(cells: Batch) -> tuple[Batch, Arriving]:
        if pipeline.own is not None:
            return cells, own_images(pipeline, grid, cells)
        if pipeline.called is not None:
            return cells, decode(pipeline, called(pipeline, grid, cells, branches[0].text))
        run = Denoising(pipeline, grid, cells)
        run.advance(branches)
        return cells, decode(pipeline, run.latents)

    with quick_denoisers(branches) if through.quick else nullcontext():
        yield from arrived(ahead_of(make, todo, workers_of(pipeline, grid)), collect)


def time_one(phases: Sequence[Phase], grid: Grid, cell: Cell, watch: Stopwatch, stages: Sequence[LiveStage] = (),
             post: PostProcess | None = None) -> None:
    """Samples one image at batch 1 as a user would, with each phase timed by `watch`: text, denoise, decode, and switch if the
    adapters change between steps, "post" for the post-steps, and `LENDING`. Those of a later stage are named after it, as
    "stage 2 denoise"; "stage 2 begin" is what it takes to hand over the picture or the latents."""
    pipeline = phases[0].enter()
    if pipeline.own is not None:
        _timed_post(post, time_own(pipeline, grid, cell, watch), None, watch)
        return
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
            run = begun(pipeline, stage, (cell,), run.latents, pictures.begun_from)
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
