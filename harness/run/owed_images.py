"""The images that candidates lack, made in units of one batch size, and put on record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from harness.declare import Candidate
from harness.declare.prompt_groups import PromptGroup, groups_of
from harness.executors.contract import MATERIALISE, SAMPLE, Batch, Event, Failed, Overflowed, Ready, Refused, Unit
from harness.executors.overflow import Fp16OverflowError
from harness.materialise import Workbench
from harness.records import Cell, Coverage, Failure, Fit, Sample, Weights
from harness.run.algebra_gate import identities_of
from harness.run.batch_sizes import BatchSizes
from harness.run.group_coverage import rows_beside
from harness.run.image_making import ImageMaking, as_pixels
from harness.run.images import Gallery
from harness.run.measurement import Meter
from harness.run.noise_floor import floor_cells, floor_records
from harness.run.stages import Stages, WorkerFailureError

if TYPE_CHECKING:
    from harness.sampling import Images


class Executor(Protocol):
    """Has units made, and calls `write` with their batches."""

    def run(self, unit: Unit, write: Callable[[Batch], None]) -> Iterator[Event]:
        """Yields what a worker says of a unit besides its batches; what ends it when all of these are written."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The prompts of a candidate that bring the same adapters; most candidates have one group, of all prompts. `weights` are the
    candidate's. With `floor`, the noise floor is measured with them; `whole` says that coverage and identities are asked for."""

    candidate: Candidate
    weights: Weights
    number: int
    prompts: PromptGroup
    alone: bool
    floor: bool
    untried: bool
    last: bool

    def makes(self, cell: Cell) -> bool:
        """Whether the image of a cell is made with these adapters."""
        return self.alone or cell.prompt in self.prompts.prompts


@dataclass(frozen=True, kw_only=True)
class OwedImages:
    """Has images made by `executor`. `took` is called with a candidate, its images and their pixels once they are written, and
    `halved` when memory for a batch was refused."""

    gallery: Gallery
    stages: Stages
    sizes: BatchSizes
    meter: Meter
    executor: Executor
    bench: Callable[[], Workbench]
    took: Callable[[Candidate, Sequence[Sample], Images], None]
    halved: Callable[[], None]
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
                next(steps)
            if failures:
                return
            with self.stages.stage(candidate.name, SAMPLE, failures):
                for _ in steps:
                    pass
            self.meter.settle()
            if failures:
                return

    def _group(self, group: Group, cells: Sequence[Cell], rows: list[Coverage]) -> Iterator[None]:
        """Makes a group's images. Yields when the candidate is materialised. `rows` are those of the coverage so far."""
        name, bench, size = group.candidate.name, self.bench(), self.gallery.suite.grid.images_per_batch
        post = bench.post(group.candidate)
        raw = bench.raw_weights(group.candidate) if post else None
        if (fit := self.sizes.begin(name, self.gallery.shape(name))) is not None:
            self._share(group, self._record(fit), guided=True)
            cells = self._absent(group)
        ready = False
        for guided in (False, True):
            part = [cell for cell in cells if (cell.guidance != 1) is guided]
            while part or (guided and not ready):
                size = self.sizes.of(name, guided=guided) if part else size
                making = self.gallery.making(group.candidate, group.weights, size, raw=raw, post=post)
                end = None
                for event in self.executor.run(self._unit(group, part, size), partial(self._write, group.candidate, making)):
                    if not isinstance(event, Ready):
                        end = event
                    elif not ready:
                        ready = True
                        self._materialised(group, event, rows)
                        yield
                if not self._refused(group, end, guided=guided):
                    break
                part = [cell for cell in self._absent(group) if (cell.guidance != 1) is guided]
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

    def _unit(self, group: Group, cells: Sequence[Cell], size: int, *, floor: bool = False) -> Unit:
        bench, candidate = self.bench(), group.candidate
        return Unit(number=next(self._numbers), candidate=candidate, group=group.number, cells=tuple(cells), batch_size=size,
                    weights=group.weights, in_bf16=bench.wider.known[candidate.name].why if candidate in bench.wider else "",
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
        self._share(group, fit, guided=guided)
        self.halved()
        return True

    def _record(self, fit: Fit) -> Fit:
        ledger = self.gallery.ledger
        fit = replace(fit, setting=ledger.setting(fit.candidate))
        ledger.add([fit])
        return fit

    def _share(self, group: Group, fit: Fit, *, guided: bool) -> None:
        """Lets other runs know that memory for a batch was refused."""
        bench, candidate = self.bench(), group.candidate
        sampled = bench.raw_weights(candidate) if candidate.post else group.weights
        self.gallery.share_refusal(candidate, sampled.identity, fit, guided=guided)

    def _absent(self, group: Group) -> list[Cell]:
        return [cell for cell in self.gallery.absent(group.candidate, group.weights) if group.makes(cell)]

    def _write(self, candidate: Candidate, making: ImageMaking, batch: Batch) -> None:
        written = [making.of(picture) for picture in batch.pictures]
        self.took(candidate, self.gallery.store(making, written), np.stack([image.pixels for image in written]))

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
