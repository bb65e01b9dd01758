"""The images that candidates lack, made in units of one batch size, and put on record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from harness.declare import Candidate
from harness.declare.effective_grid import run_grid
from harness.declare.prompt_groups import PromptGroup, groups_of
from harness.executors.contract import MATERIALISE, SAMPLE, Batch, Event, Failed, Overflowed, Ready, Refused, Unit
from harness.executors.overflow import Fp16OverflowError
from harness.executors.with_crew import WithCrew
from harness.materialise import WiderFormats, Workbench
from harness.post import PostProcess
from harness.records import Cell, Coverage, Failure, Fit, Sample, Weights
from harness.run.algebra_gate import identities_of
from harness.run.batch_sizes import BatchSizes
from harness.run.group_coverage import rows_beside
from harness.run.image_making import ImageMaking, as_pixels
from harness.run.images import Gallery
from harness.run.measurement import Meter
from harness.run.noise_floor import floor_cells, floor_records
from harness.run.stages import Stages, WorkerFailureError
from harness.sampling import pack

if TYPE_CHECKING:
    from harness.sampling import Images


UNITS_OF_A_CANDIDATE: Final = 10 ** 9
"""Units are numbered by the turn of their candidate times this, and as they come."""


class Executor(Protocol):
    """Has units made, and calls `write` with their batches."""

    def run(self, unit: Unit, write: Callable[[Batch], None]) -> Iterator[Event]:
        """Yields what a worker says of a unit besides its batches; what ends it when all of these are written."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The prompts of a candidate that bring the same adapters; most candidates have one group, of all prompts. `weights` are the
    candidate's. With `floor`, the noise floor is measured with them, and with `untried` the identities are tried."""

    candidate: Candidate
    weights: Weights
    number: int
    prompts: PromptGroup
    alone: bool
    floor: bool = False
    untried: bool = False
    last: bool = False

    def makes(self, cell: Cell) -> bool:
        """Whether the image of a cell is made with these adapters."""
        return self.alone or cell.prompt in self.prompts.prompts


@dataclass(frozen=True, kw_only=True)
class OwedImages:
    """Has images made by `executor`. `took` is called with a candidate, its images and what gives their pixels, once they
    are written, and `halved` when memory for a batch was refused: with the candidate's name, the refusal, and whether the batch
    had guidance."""

    gallery: Gallery
    stages: Stages
    sizes: BatchSizes
    meter: Meter
    executor: Executor
    bench: Callable[[], Workbench]
    wider: WiderFormats
    took: Callable[[Candidate, Sequence[Sample], Callable[[], Images]], None]
    halved: Callable[[str, Fit, bool], None]
    crew: WithCrew | None = None
    """The executor, if it takes units ahead of the time when they are run."""
    turns: dict[str, int] = field(default_factory=dict)
    """By candidate: in which order candidates are made, where several are handed over."""
    _numbers: Iterator[int] = field(default_factory=count)

    def make(self, candidate: Candidate, weights: Weights, absent: Sequence[Cell], failures: list[Failure]) -> None:
        """Makes the absent images of a candidate, one group of prompts that bring the same adapters after the other. Returns when
        all are written and measured. Without any, makes its coverage, the noise floor or the identities if they are due."""
        suite, ledger, rows = self.gallery.suite, self.gallery.ledger, list[Coverage]()
        floor = candidate.name == suite.baseline and suite.grid.images_per_batch > 1 and not ledger.has_floor(
            candidate.name, weights.identity, suite.grid.images_per_batch)
        untried = any(gate.value == "identities" for gate in suite.gates) and not ledger.tried(candidate.name)
        uncovered, groups = not ledger.covered(candidate.name), groups_of(candidate, suite.grid.prompts)
        self.sizes.learn(candidate.name, self.gallery.shape(candidate.name), self.gallery.learned(candidate.name))
        self._turn(candidate.name)
        for number, prompts in enumerate(groups):
            # The noise floor is measured with the last group: only then are all images there.
            last = number == len(groups) - 1
            group = Group(candidate=candidate, weights=weights, number=number, prompts=prompts, alone=len(groups) == 1,
                          floor=floor and last, untried=untried and last, last=last)
            cells = [cell for cell in absent if group.makes(cell)]
            if not (cells or uncovered or group.floor or group.untried):
                continue
            steps = self._group(group, cells, rows)
            with self.stages.stage(candidate.name, MATERIALISE, failures):
                if cells and self.crew is not None and self.crew.starting:
                    self.stages.begin(candidate.name, "wait for the workers to start")
                next(steps)
            if failures:
                return
            with self.stages.stage(candidate.name, SAMPLE, failures):
                for _ in steps:
                    pass
            self.meter.settle()
            if failures:
                return

    def hand(self, candidate: Candidate, weights: Weights, absent: Sequence[Cell]) -> None:
        """Hands the absent images of a candidate over to the crew, to be made beside those of others."""
        assert self.crew is not None
        self._turn(candidate.name)
        post, raw = self._post(candidate)
        shape = self.gallery.shape(candidate.name)
        self.sizes.learn(candidate.name, shape, self.gallery.learned(candidate.name))
        if (fit := self.sizes.begin(candidate.name, shape)) is not None:
            self._share(candidate, self._record(fit), guided=True)
            there = set(absent) - set(self.gallery.absent(candidate, weights, absent))
            absent = [cell for cell in absent if cell not in there]
        groups = groups_of(candidate, self.gallery.suite.grid.prompts)
        for number, prompts in enumerate(groups):
            group = Group(candidate=candidate, weights=weights, number=number, prompts=prompts, alone=len(groups) == 1)
            for guided in (False, True):
                if cells := [cell for cell in absent if (cell.guidance != 1) is guided and group.makes(cell)]:
                    size = self.sizes.of(candidate.name, guided=guided)
                    making = self.gallery.making(candidate, weights, size, raw=raw, post=post)
                    self.crew.hand(self._unit(group, cells, size), partial(self._write, candidate, making))

    def sampled_keys(self, candidate: Candidate, weights: Weights) -> Mapping[Cell, str]:
        """The keys of what is sampled of a candidate, in batches of the grid's size."""
        post, raw = self._post(candidate)
        making = self.gallery.making(candidate, weights, self.gallery.suite.grid.images_per_batch, raw=raw, post=post)
        return making.raw_keys or making.keys

    def _turn(self, name: str) -> None:
        self.turns.setdefault(name, len(self.turns))

    def _post(self, candidate: Candidate) -> tuple[PostProcess | None, Weights | None]:
        """A candidate's post-steps, and the weights of what is sampled before them."""
        bench = self.bench()
        return (bench.post(candidate), bench.raw_weights(candidate)) if candidate.post else (None, None)

    def _group(self, group: Group, cells: Sequence[Cell], rows: list[Coverage]) -> Iterator[None]:
        """Makes a group's images. Yields when the candidate is materialised. `rows` are those of the coverage so far."""
        name, size = group.candidate.name, self.gallery.suite.grid.images_per_batch
        post, raw = self._post(group.candidate)
        if (fit := self.sizes.begin(name, self.gallery.shape(name))) is not None:
            self._share(group.candidate, self._record(fit), guided=True)
            cells = self._absent(group)
        ready = False
        for guided in (False, True):
            part = [cell for cell in cells if (cell.guidance != 1) is guided]
            while part or (guided and not ready):
                size = self.sizes.of(name, guided=guided) if part else size
                making = self.gallery.making(group.candidate, group.weights, size, raw=raw, post=post)
                unit, end = self._handed(group, guided=guided) or self._unit(group, part, size), None
                for event in self.executor.run(unit, partial(self._write, group.candidate, making)):
                    if not isinstance(event, Ready):
                        end = event
                    elif not ready:
                        ready = True
                        self._materialised(group, event, rows)
                        yield
                if self._refused(group, end, guided=guided):
                    part = [cell for cell in self._absent(group) if (cell.guidance != 1) is guided]
                    continue
                made = frozenset(unit.cells)
                if part := [cell for cell in part if cell not in made]:
                    # Not handed over, because another candidate makes them, too: adopted, if it did.
                    absent = frozenset(self._absent(group))
                    part = [cell for cell in part if cell in absent]
        if group.floor:
            self._measure_floor(group)

    def _materialised(self, group: Group, event: Ready, rows: list[Coverage]) -> None:
        name = group.candidate.name
        rows += rows_beside(rows, event.coverage, group.prompts)
        if group.last:
            self.gallery.ledger.cover(name, rows)
        if group.untried:
            self.gallery.ledger.add(identities_of(group.candidate, self.bench().library))
        self.meter.begin(name)

    def _handed(self, group: Group, *, guided: bool) -> Unit | None:
        """The unit of a group that was handed over."""
        units = [] if self.crew is None else self.crew.handed(group.candidate.name)
        return next((unit for unit in units if (unit.group, unit.guided) == (group.number, guided)), None)

    def _unit(self, group: Group, cells: Sequence[Cell], size: int, *, floor: bool = False) -> Unit:
        candidate = group.candidate
        batches: tuple[tuple[Cell, ...], ...] = ()
        if self.crew is not None and not floor:  # pieces are cut between the batches of one process
            packed = pack(run_grid(self.gallery.suite, candidate), cells, size)
            batches = tuple(tuple(dict.fromkeys(row)) for row in packed)
            cells = [cell for batch in batches for cell in batch]
        why = self.wider.known[candidate.name].why if candidate in self.wider else ""
        return Unit(number=self.turns[candidate.name] * UNITS_OF_A_CANDIDATE + next(self._numbers), candidate=candidate,
                    group=group.number, cells=tuple(cells), batch_size=size, batches=tuple(map(len, batches)),
                    weights=group.weights, in_bf16=why,
                    in_common=() if floor else self.gallery.in_common(candidate), floor=floor)

    def _refused(self, group: Group, end: Any, *, guided: bool) -> bool:
        """Whether memory for a batch was refused at the end of a unit: its size is halved then. Raises Fp16OverflowError and
        WorkerFailureError for the other ends."""
        if isinstance(end, Overflowed):
            raise Fp16OverflowError(end.why)
        if isinstance(end, Failed):
            if end.fit is not None:
                self._record(end.fit)
            raise WorkerFailureError(end)
        if not isinstance(end, Refused):
            return False
        name = group.candidate.name
        fit = self._record(end.fit)
        self.sizes.halve(name, self.gallery.shape(name), fit, guided=guided)
        self._share(group.candidate, fit, guided=guided)
        self.halved(name, fit, guided)
        return True

    def _record(self, fit: Fit) -> Fit:
        ledger = self.gallery.ledger
        fit = replace(fit, setting=ledger.setting(fit.candidate))
        ledger.add([fit])
        return fit

    def _share(self, candidate: Candidate, fit: Fit, *, guided: bool) -> None:
        """Lets other runs know that memory for a batch was refused."""
        self.gallery.share_refusal(candidate, self.bench().sampled_weights(candidate).identity, fit, guided=guided)

    def _absent(self, group: Group) -> list[Cell]:
        return [cell for cell in self.gallery.absent(group.candidate, group.weights) if group.makes(cell)]

    def _write(self, candidate: Candidate, making: ImageMaking, batch: Batch) -> None:
        written = [making.of(picture) for picture in batch.pictures]
        self.took(candidate, self.gallery.store(making, written), lambda: np.stack([image.pixels for image in written]))

    def _measure_floor(self, group: Group) -> None:
        """Has a few images made again, one at a time, and records how far they differ from those made in batches."""
        name, alone = group.candidate.name, dict[Cell, Any]()
        cells = floor_cells(self.gallery, name, None if group.alone else frozenset(group.prompts.prompts))

        def note(batch: Batch) -> None:
            alone.update({picture.cell: as_pixels(picture.image) for picture in batch.pictures})

        if cells:
            for event in self.executor.run(self._unit(group, cells, 1, floor=True), note):
                if not isinstance(event, Ready):
                    self._refused(group, event, guided=True)
        self.gallery.ledger.add(floor_records(self.gallery, name, group.weights.identity, alone))
