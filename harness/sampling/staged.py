"""Batches in groups that go through each stage of a candidate, and through each of its phases, together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias

from harness.declare import Grid
from harness.declare.stages import stage_name
from harness.records import Cell
from harness.sampling.arriving import Arriving, Images
from harness.sampling.at_once import ahead_of, run_phases, workers_of
from harness.sampling.common_stages import Common, Ended
from harness.sampling.denoise import Denoising, Start, at_once, decode
from harness.sampling.hand_over import StagePictures, from_latents, from_pictures, needs_pictures, resized_pictures
from harness.sampling.text import TextState

if TYPE_CHECKING:
    import torch

    from harness.materialise import LiveStage, Phase
    from harness.weights import Pipeline

Batch = tuple[Cell, ...]

Broken: TypeAlias = Callable[[Cell, str], None]
"""Called with a cell whose image is unusable, and the reason."""
Beside: TypeAlias = Callable[[Batch, str, Images], None]
"""Called with a batch, the name of a stage that is not the last, and its pictures."""

BATCHES_PER_SWITCH: Final = 32
"""With several phases, this many batches go through one phase before the weights are switched. Switches are then rare, and the
unfinished batches fit into memory (32 batches of 16 latents of a 1024 x 1024 image are 134 MB)."""

MOST_WAITING_BYTES: Final = 256 << 20
"""Of pictures that wait between two stages."""


@dataclass(frozen=True, kw_only=True)
class Later:
    """The stages after the first, who is given the pictures that they begin from, and what other candidates have in common with
    them and with the first."""

    stages: Sequence[LiveStage] = ()
    beside: Beside | None = None
    broken: Broken | None = None
    common: Common | None = None
    quick: bool = True
    """Whether linear layers may use the faster of two libraries. Not where torch's own operations are timed."""

    def keep(self, cells: Batch, number: int, arriving: Arriving) -> Images:
        """The pictures of a stage, `number` from 0, once they are there. They and its latents are kept for others that have the
        stage too."""
        places: list[int] = []

        def note(place: int, why: str) -> None:
            places.append(place)
            assert self.broken is not None
            self.broken(cells[place], why)

        images = arriving.images(None if self.broken is None else note)
        if self.common is not None:
            self.common.keep(number, cells, arriving.latents, images, places)
        return images


@dataclass(kw_only=True)
class _UnderWay:
    """A batch between two stages. `ended` says how the first stages ended, where that is known without sampling."""

    cells: Batch
    ended: tuple[Ended, ...]
    latents: torch.Tensor | None = None
    pictures: StagePictures = field(default_factory=StagePictures)


def groups_of_batches(phases: Sequence[Phase], grid: Grid, todo: Iterable[Batch],
                      stages: Sequence[LiveStage]) -> Iterator[list[Batch]]:
    """The batches in groups that go through a stage together: their pictures wait in main memory."""
    pixels = max(one.width * one.height for one in (grid, *(stage.grid for stage in stages)))
    size = max(1, min(BATCHES_PER_SWITCH, MOST_WAITING_BYTES // (3 * pixels * grid.images_per_batch)))
    if not stages and len(phases) == 1:  # nothing waits
        size = workers_of(phases[0].enter(), grid)
    waiting = iter(todo)
    while group := list(islice(waiting, size)):
        yield group


def staged(phases: Sequence[Phase], grid: Grid, group: Sequence[Batch], texts: Mapping[str, TextState],
           later: Later) -> Iterator[tuple[Batch, Arriving]]:
    """A group of batches through all stages together: each begins when all batches have gone through the one before."""
    count = len(later.stages) + 1
    batches = [_UnderWay(cells=cells, ended=() if later.common is None else later.common.ended(cells, count)) for cells in group]
    every: list[tuple[LiveStage | None, Sequence[Phase], int]] = [
        (None, phases, grid.steps), *((stage, stage.phases, stage.grid.steps) for stage in later.stages)]
    pipeline: Pipeline | None = None
    for number, (stage, own, steps) in enumerate(every):
        if stage is not None:
            _take_pictures(every[number - 1][1], pipeline, stage, batches, later)
        pipeline = None
        if sampled := [one for one in batches if number >= len(one.ended)]:
            pipeline = own[0].enter()
            workers = workers_of(pipeline, grid)
            runs = list(ahead_of(partial(_begun_or_new, pipeline, stage, grid), sampled, workers))
            run_phases(own, steps, runs, texts, workers, quick=later.quick)
            for one, run in zip(sampled, runs, strict=True):
                one.latents = run.latents
        for one in batches:
            if number < len(one.ended):
                one.latents = one.ended[number].latents
    decoding = pipeline or every[-1][1][-1].enter()
    yield from ahead_of(lambda one: (one.cells, one.pictures.coloured(_decoded(decoding, one))), batches,
                        workers_of(decoding, grid))


def _decoded(pipeline: Pipeline, batch: _UnderWay) -> Arriving:
    assert batch.latents is not None
    return decode(pipeline, batch.latents.to(pipeline.device))


def _take_pictures(phases: Sequence[Phase], pipeline: Pipeline | None, stage: LiveStage, batches: Sequence[_UnderWay],
                   later: Later) -> None:
    """Gives the batches the pictures that `stage` begins from, where somebody asks for them. They are those of the stage before,
    whose `phases` these are; its `pipeline` is live if it was sampled now."""
    number = stage.number - 1
    if not needs_pictures(stage) and later.beside is None:
        for one in batches:
            assert one.latents is not None
            one.pictures = StagePictures().after(one.pictures, stage)
            if later.common is not None:
                later.common.keep(number, one.cells, one.latents, None)
        return
    images = {place: one.ended[number].pictures for place, one in enumerate(batches) if number < len(one.ended)}
    if missing := [place for place in range(len(batches)) if images.get(place) is None]:
        # The last phase is the one that is live where the stage was sampled now.
        live = pipeline or phases[-1].enter()
        workers = 1 if live.device.type == "cuda" else workers_of(live, stage.grid)
        for place, arriving in ahead_of(lambda at: (at, batches[at].pictures.coloured(_decoded(live, batches[at]))), missing,
                                        workers):
            images[place] = later.keep(batches[place].cells, number, arriving)
    for place, one in enumerate(batches):
        pictures = images[place]
        assert pictures is not None
        if later.beside is not None:
            later.beside(one.cells, stage_name(number), pictures)
        one.pictures = StagePictures(begun_from=pictures).after(one.pictures, stage)


def _begun_or_new(pipeline: Pipeline, stage: LiveStage | None, grid: Grid, batch: _UnderWay) -> Denoising:
    """A batch at the beginning of a stage; None is the first."""
    if stage is None:
        return Denoising(pipeline, grid, batch.cells)
    assert batch.latents is not None
    return begun(pipeline, stage, batch.cells, batch.latents, batch.pictures.begun_from)


def begun(pipeline: Pipeline, stage: LiveStage, cells: Batch, latents: torch.Tensor, images: Images | None) -> Denoising:
    """A batch at the beginning of a later stage, of the latents and pictures of the stage before."""
    start = Start(latents=handed_over(pipeline, stage, latents, images), stage=stage.number, of_steps=stage.of_steps,
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
