"""Workers that are only acted, on a clock that jumps from one event to the next: a sweep of any size in no time."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.executors.contract import (
    About,
    Batch,
    Done,
    Errand,
    Found,
    Free,
    Job,
    Lost,
    Overflowed,
    Picture,
    Ready,
    Refused,
    Task,
    Unit,
)
from harness.executors.contract import Failed as FailedUnit
from harness.executors.contract import Unfit as UnfitUnit
from harness.executors.plan import batches_of
from harness.records import Cell
from tests.executors.sleeper import ENVIRONMENT, painted

SILENCE = "silence"
ENDINGS = (Refused, Overflowed, FailedUnit, UnfitUnit)


class Clock:
    """Seconds since the beginning."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class _Acted:
    units: deque[Task] = field(default_factory=deque)
    script: Iterator[tuple[float, Any]] | None = None
    candidate: str = ""
    cells: tuple[Cell, ...] = ()
    """Those of the batch that is made now."""


@dataclass
class ActedHands:
    """`seconds` are those of a batch, `prepare` those of a new candidate, `start` those of a worker. `upset` is asked before each
    batch, with the worker, the unit and the first cell, and returns what happens instead: an event that ends the unit, a Lost, or
    SILENCE. `facts` are what a worker says it is."""

    clock: Clock
    seconds: float = 1.0
    prepare: float = 0.0
    begin: float = 0.0
    upset: Callable[[int, Unit, Cell | None], Any] = lambda worker, unit, cell: None
    facts: Callable[[int], dict[str, Any]] = lambda worker: {"environment": ENVIRONMENT}
    early: Callable[[int], Lost | None] = lambda worker: None
    workers: dict[int, _Acted] = field(default_factory=dict)
    stopped: list[int] = field(default_factory=list)
    given: list[tuple[int, Any]] = field(default_factory=list)
    started: int = 0
    _due: list[tuple[float, int, int, Any]] = field(default_factory=list)
    _count: int = 0

    def start(self, job: Job, count: int) -> Sequence[int]:
        numbers = range(self.started, self.started + count)
        self.started += count
        for number in numbers:
            self.workers[number] = _Acted()
            self._push(self.begin, number, self.early(number) or self._about(number, job))
        return list(numbers)

    def _about(self, number: int, job: Job) -> About:
        return About(facts={"host": "stage", "pid": number, "device": "cpu", **self.facts(number)}, job=job.number)

    def give(self, worker: int, task: Task | Job | Free) -> None:
        self.given.append((worker, task))
        if (one := self.workers.get(worker)) is None or isinstance(task, Free):
            return
        if isinstance(task, Job):
            self._push(0.0, worker, self._about(worker, task))
            return
        one.units.append(task)
        if one.script is None:
            self._go_on(worker)

    def arrivals(self, timeout: float) -> list[tuple[int, Any]]:
        until = self.clock.now + timeout
        if not self._due or self._due[0][0] > until:
            self.clock.now = until
            return []
        self.clock.now = max(self.clock.now, self._due[0][0])
        came = []
        while self._due and self._due[0][0] <= self.clock.now:
            _, _, worker, event = heapq.heappop(self._due)
            if worker in self.workers:
                came.append((worker, event))
                if isinstance(event, Lost):
                    del self.workers[worker]
                elif not isinstance(event, About):
                    self._go_on(worker)
        return came

    def kill(self, worker: int) -> None:
        """What it had not sent is gone."""
        self._due = [one for one in self._due if one[2] != worker]
        heapq.heapify(self._due)
        self._push(0.0, worker, Lost(why="killed"))

    def stop(self, worker: int) -> None:
        self.stopped.append(worker)
        self.workers.pop(worker, None)

    def close(self) -> None:
        self.workers.clear()

    def _go_on(self, worker: int) -> None:
        one = self.workers[worker]
        while True:
            if one.script is None:
                if not one.units:
                    return
                one.script = self._script(worker, one, one.units.popleft())
            try:
                after, event = next(one.script)
            except StopIteration:
                one.script = None
                continue
            if event is not SILENCE:
                self._push(after, worker, event)
            return

    def _script(self, worker: int, one: _Acted, unit: Task) -> Iterator[tuple[float, Any]]:
        if isinstance(unit, Errand):
            for value in unit.given:
                ending = self.upset(worker, unit, None)  # type: ignore[arg-type]
                yield self.seconds, ending or Found(value=value)
                if ending:
                    return
            yield 0.0, Done()
            return
        after = 0.0 if one.candidate == unit.candidate.name else self.prepare
        one.candidate, one.cells = unit.candidate.name, next(batches_of(unit))
        yield after, Ready(seconds=self.prepare)
        for cells in batches_of(unit):
            one.cells = cells
            upset = self.upset(worker, unit, cells[0] if cells else None)
            if upset is not None:
                yield self.seconds, upset
                return
            if cells:
                yield self.seconds, Batch(pictures=tuple(
                    Picture(cell=cell, image=painted(unit.candidate.name, cell, unit.batch_size)) for cell in cells))
        yield 0.0, Done()

    def _push(self, after: float, worker: int, event: Any) -> None:
        self._count += 1
        heapq.heappush(self._due, (self.clock.now + after, self._count, worker, event))
