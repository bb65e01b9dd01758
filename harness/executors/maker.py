"""Makes the images of units: materialises candidates, embeds the texts, and samples batches of one shape."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.declare import Candidate, Grid, short_hash
from harness.declare.effective_grid import run_grid, sampling_block
from harness.declare.prompt_texts import change_along_steps
from harness.executors.contract import (
    MATERIALISE,
    SAMPLE,
    Batch,
    Event,
    Failed,
    Overflowed,
    Picture,
    Ready,
    Refused,
    Unit,
)
from harness.executors.overflow import Fp16OverflowError, loading
from harness.executors.room import Room
from harness.probes.environment import environment
from harness.probes.fits import free_memory, not_fitting, out_of_memory
from harness.records import Cell
from harness.sampling import (
    NOT_FINITE,
    Common,
    Later,
    SamplingError,
    StageStore,
    TextState,
    encode,
    kinds,
    lengths_of,
    named,
    pack,
    read_by,
    sample,
    setting,
    threads_per_operation,
)

if TYPE_CHECKING:
    from harness.materialise import Prepared, Workbench
    from harness.sampling import Images


@dataclass(frozen=True, kw_only=True)
class _Live:
    """A candidate that is materialised, for a group of prompts: its grid and the embeddings of its texts."""

    candidate: Candidate
    group: int
    in_bf16: str
    prepared: Prepared
    grid: Grid
    texts: Mapping[str, TextState]
    may_widen: bool

    def own(self, cells: Sequence[Cell], images: Images) -> dict[Cell, Images]:
        """The images of a batch without its repetitions. Of a repeated cell, the image at the cell's own place is kept."""
        by_cell: dict[Cell, Images] = {}
        for place, (cell, image) in enumerate(zip(cells, images, strict=True)):
            if cell not in by_cell or self._numbers[cell] % len(cells) == place:
                by_cell[cell] = image
        return by_cell

    @cached_property
    def _numbers(self) -> dict[Cell, int]:
        return {cell: number for kind in kinds(self.grid) for number, cell in enumerate(kind)}


@dataclass(kw_only=True)
class Maker:
    """Makes units on one device. `new_bench` gives an empty workbench, and `grid` is that of the suite."""

    new_bench: Callable[[], Workbench]
    grid: Grid
    bench: Workbench = field(init=False)
    _texts: dict[tuple[str, int], TextState] = field(default_factory=dict)
    _stages: StageStore = field(init=False)
    _last: _Live | None = None

    def __post_init__(self) -> None:
        self.bench, self._stages = self.new_bench(), StageStore()
        self._room = Room(device=self.bench.device, loaded=lambda candidate: bool(self.bench.load_seconds(candidate)))

    def take_grid(self, grid: Grid) -> None:
        """Takes the grid whose batch size is known, in place of one that asked for what fits."""
        self.grid = grid
        self.bench.take_grid(grid)

    def about(self) -> Mapping[str, Any]:
        """What this worker is."""
        device = self.bench.device
        return {"host": socket.gethostname(), "pid": os.getpid(), "device": device, "environment": environment(device) | {
            "threads_per_operation": threads_per_operation(self.grid, device)}}

    def make(self, unit: Unit) -> Iterator[Event]:
        """Makes the images of a unit. An exception ends it as an event; only an interruption is raised."""
        stage, end = MATERIALISE, None  # type: str, Event | None
        try:
            started = time.perf_counter()
            live = self._materialised(unit)
            yield Ready(coverage=tuple(live.prepared.coverage), seconds=time.perf_counter() - started)
            stage = SAMPLE
            yield from self._batches(unit, live)
        except Fp16OverflowError as overflow:
            end = Overflowed(why=str(overflow))
        except Exception as error:
            end = self._ended(unit, stage, error)
        if end is not None:
            if stage == MATERIALISE or isinstance(end, Refused):
                free_memory(self.bench.device)
            yield end

    def take_format(self, unit: Unit) -> None:
        """Lets a unit's candidate run in bf16 from now on where the unit says so."""
        if unit.in_bf16 and unit.candidate not in self.bench.wider:
            self._last = None
            self.bench.widen(unit.candidate, unit.in_bf16)

    def stands(self, unit: Unit) -> bool:
        """Whether a unit's candidate is materialised, because the last unit was of it too."""
        last = self._last
        return last is not None and (last.group, last.in_bf16, last.candidate) == (unit.group, unit.in_bf16, unit.candidate)

    def let_go(self) -> None:
        """Forgets which candidate is materialised: the workbench is used for others, too."""
        self._last = None

    def forget(self) -> None:
        """Frees the embeddings of texts, and the stages that candidates have in common; they are made again where needed."""
        self.let_go()
        self._texts.clear()
        self._stages.clear()

    def release(self) -> None:
        """Frees all models."""
        self.forget()
        self.bench = self.new_bench()
        free_memory(self.bench.device)

    def _materialised(self, unit: Unit) -> _Live:
        candidate = unit.candidate
        if self._last is not None and self.stands(unit):
            return self._last
        self._last = None
        self.take_format(unit)
        may_widen = self.bench.may_widen(candidate)
        with self._room.making(candidate), loading(may_widen=may_widen):
            prepared = self.bench.prepare(candidate, unit.group) if unit.group else self.bench.prepare(candidate)
            grid = run_grid(self.grid, candidate)
            texts = self._embeddings(prepared, grid)
        self._last = _Live(candidate=candidate, group=unit.group, in_bf16=unit.in_bf16, prepared=prepared, grid=grid, texts=texts,
                           may_widen=may_widen)
        return self._last

    def _batches(self, unit: Unit, live: _Live) -> Iterator[Batch]:
        """The batches of a unit. Raises Fp16OverflowError at the first image that overflows, if the candidate may widen."""
        prepared, grid, texts = live.prepared, live.grid, live.texts
        defects: dict[Cell, str] = {}
        stages: dict[Cell, dict[str, Images]] = {}

        def note(cell: Cell, why: str) -> None:
            if live.may_widen and why == NOT_FINITE:
                raise Fp16OverflowError(why)
            defects[cell] = why

        def beside(cells: Sequence[Cell], name: str, pictures: Images) -> None:
            for cell, picture in live.own(cells, pictures).items():
                stages.setdefault(cell, {})[name] = picture

        if not unit.cells:
            return
        if unit.floor:
            todo: Sequence[tuple[Cell, ...]] = [(cell,) for cell in unit.cells]
            broken, later = None, Later(stages=prepared.stages)
        else:
            todo = pack(grid, unit.cells, unit.batch_size, lengths_of(prepared.phases, texts, grid, prepared.stages))
            broken, later = note, Later(stages=prepared.stages, beside=beside, common=self._common(unit))
        for cells, images in sample(prepared.phases, grid, todo, texts, broken, later):
            yield Batch(pictures=tuple(Picture(cell=cell, image=image, why=defects.pop(cell, ""), stages=stages.pop(cell, {}))
                                       for cell, image in live.own(cells, images).items()))

    def _common(self, unit: Unit) -> Common | None:
        """What of a candidate's stages is in common with others."""
        if not any(unit.in_common):
            return None
        candidate = unit.candidate
        weights = [self.bench.weights_up_to(candidate, stage) if shared else None
                   for stage, shared in enumerate(unit.in_common)]
        block = sampling_block(setting(self.grid, self.bench.device), self.grid, candidate)

        def key(number: int, prompt: str) -> str:
            own = weights[number]
            return "" if own is None else short_hash([own.of(prompt), block])

        return Common(store=self._stages, key=key)

    def _ended(self, unit: Unit, stage: str, error: Exception) -> Event:
        """How an exception ends a unit."""
        refused = None if unit.floor and stage == SAMPLE else out_of_memory(error, self.bench.device)
        if refused is None:
            return Failed.of(stage, error)
        size = unit.batch_size if stage == SAMPLE else 1
        fit = not_fitting(refused, unit.candidate.name, size)
        return Refused(fit=fit) if size > 1 else Failed.of(stage, error, fit)

    def _embeddings(self, prepared: Prepared, grid: Grid) -> dict[str, TextState]:
        """The embeddings of every branch, computed once for each state of the text encoders and, where texts change along the
        steps, each number of steps. Raises SamplingError for a word of the treatment that appears in no prompt, because it would
        have no effect."""
        reading = [(branch, prompts, steps if change_along_steps(prompts) else 1) for branch, prompts, steps in read_by(
            prepared.phases, grid.prompts, grid.steps, prepared.stages)]
        keys = {branch.text_identity: (branch.text_identity, steps) for branch, _, steps in reading}
        if self.bench.device != "cpu":
            # On a GPU only those that are in use: 100 texts of Flux take 0.8 GB.
            for key in self._texts.keys() - set(keys.values()):
                del self._texts[key]
        for branch, prompts, steps in reading:
            if (key := keys[branch.text_identity]) not in self._texts:
                self._texts[key] = encode(branch.enter(), prompts, branch.treatment, steps=steps)
        texts = {identity: self._texts[key] for identity, key in keys.items()}
        words = {word for branch, *_ in reading for word in named(branch.treatment)}
        if unused := sorted(words - {word for state in texts.values() for word in state.occurring}):
            raise SamplingError(f"the word {unused[0]!r} appears in no prompt of the suite, so it has no effect; write it into "
                                "the prompts as it is spelled here, or remove it from the candidate")
        return texts
