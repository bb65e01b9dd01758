"""The driver's side of several workers: gives them units, takes what arrives, and makes good what a lost or stuck worker had."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from harness.executors.alike import difference, name_of
from harness.executors.contract import (
    MATERIALISE,
    SAMPLE,
    About,
    Batch,
    Done,
    Event,
    Failed,
    Found,
    Free,
    Hands,
    Job,
    Lost,
    Overflowed,
    Ready,
    Refused,
    Unfit,
    Unit,
)
from harness.executors.errands import Asked
from harness.executors.plan import DEATHS, Plan
from harness.executors.tally import Pace, Tally
from harness.records.harmless_text import printable
from harness.records.worker_sessions import WorkerWork

AHEAD: Final = 2
"""Pieces in the hands of a worker: the one that it makes, and the next."""
START_SECONDS: Final = 300.0
"""The least time that a worker has to start where there is a limit at all: it loads torch, and many may do so at once."""

NOBODY: Final = "NobodyFits"
"""The error of an errand that no worker can do."""

_Ending: TypeAlias = Refused | Overflowed | Failed
_OfUnit: TypeAlias = Ready | Batch | Unfit | Done | _Ending


class NoWorkerError(RuntimeError):
    """No worker is left, or none could start; the message says why, worker by worker."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrival:
    """What came of a unit. Of each unit that is not withdrawn, in this order: one Ready, batches, and at last Done or what ended
    it, which may be the failure of an earlier unit of its candidate."""

    worker: int
    unit: Unit
    event: Event | Done


class Crew:
    """Workers elsewhere, as one. With a `limit`, a worker that sends nothing for so many seconds is ended. `say` is called with
    sentences about workers that are refused, lost or replaced."""

    def __init__(self, hands: Hands, job: Job, count: int, *, limit: float = 0.0, say: Callable[[str], None] = lambda _: None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._hands, self._job, self._count, self._limit, self._say, self._clock = hands, job, count, limit, say, clock
        self._there: Sequence[int] = ()
        """Workers that had another job before."""
        self._plan = Plan(worth=self._worth_sharing)
        self._starting: dict[int, float] = {}
        """Workers that have not said what they are, and since when."""
        self._heard: dict[int, float] = {}
        """Workers that take part, and when they last sent something or got something to do."""
        self._tallies: dict[int, Tally] = {}
        self._gone: list[str] = []
        self._ready: set[int] = set()
        self._why: dict[int, list[str]] = {}
        """By unit, why the workers ended that were making it."""
        self._to_replace = 0
        self._unfit: dict[str, str] = {}
        """By candidate, why the last worker that cannot make it cannot."""
        self._pace = Pace()
        self._asked: Asked | None = None
        self._left_at = clock()

    def start(self) -> None:
        """Starts the workers and returns at once; `arrivals` says when none can be had."""
        for worker in self._there:
            self._hands.give(worker, self._job)
            self._starting[worker] = self._clock()
        self._start(self._count - len(self._there))

    def next(self, job: Job, *, limit: float, say: Callable[[str], None]) -> Crew:
        """Hands the workers over to a crew with another job, which has not started yet. Those that are still making something are
        ended, and so are those that would end this crew."""
        crew = Crew(self._hands, replace(job, number=self._job.number + 1), self._count, limit=limit, say=say, clock=self._clock)
        crew._there = self.rest()
        return crew

    def rest(self) -> list[int]:
        """Ends the workers that are still making something, and lets the others free their models. Returns these."""
        for worker in [worker for worker in self._heard if self._plan.out(worker) or self._does_errand(worker)]:
            self._hands.stop(worker)
            self._tallies[worker].turn(self._clock(), False)
            del self._heard[worker]
        for worker in self._heard:
            self._hands.give(worker, Free())
            self._tallies[worker].pause(self._clock())
        return [*self._heard, *self._starting]

    def ask(self, asked: Asked) -> None:
        """Has one worker do an errand, once nothing is owed and all are idle; meanwhile none makes images. If it is lost, another
        one does all of it."""
        self._asked = asked
        if self._to_replace and not (self._heard or self._starting):
            self._start(1)
            self._to_replace -= 1

    def owe(self, units: Iterable[Unit]) -> None:
        """Adds units to be made. A unit has a number that no other one has."""
        self._plan.owe(units)
        if self._to_replace:
            self._start(self._to_replace)
            self._to_replace = 0

    def withdraw(self, unwanted: Callable[[Unit], bool], candidates: Collection[str]) -> None:
        """Forgets units of these candidates. What workers are making of them is thrown away when it arrives."""
        self._plan.withdraw(unwanted, candidates)

    @property
    def owed(self) -> bool:
        """Whether something that is wanted has not arrived."""
        return self._plan.owed or self.asked

    @property
    def asked(self) -> bool:
        """Whether the result of an errand has not arrived."""
        return self._asked is not None

    @property
    def workers(self) -> Sequence[int]:
        """The workers that take part now."""
        return [*self._heard]

    def arrivals(self, timeout: float) -> list[Arrival]:
        """What arrived since the last call; waits up to `timeout` seconds if it is nothing. Raises NoWorkerError if something is
        owed and nobody is left to make it."""
        self._came_back()
        self._feed()
        arrived = [one for worker, event in self._hands.arrivals(self._patience(timeout)) for one in self._take(worker, event)]
        arrived += self._end_silent()
        self._feed()
        arrived += self._given_up()
        self._left_at = self._clock()
        if not (arrived or self._heard or self._starting) and self.owed:
            raise NoWorkerError(printable("no worker is left to make images: "
                                          f"{'; '.join(dict.fromkeys(self._gone)) or 'none was started'}"))
        return arrived

    def close(self) -> None:
        """Ends all workers."""
        self._hands.close()
        for tally in self._tallies.values():
            if not tally.lost:
                tally.turn(self._clock(), False)
        self._heard.clear()
        self._starting.clear()

    def work(self) -> list[WorkerWork]:
        """What each worker did so far, also those that are gone."""
        return [tally.work(self._clock()) for tally in self._tallies.values()]

    def _start(self, count: int) -> None:
        self._starting |= dict.fromkeys(self._hands.start(self._job, count), self._clock())

    def _feed(self) -> None:
        """Gives work to all that have less than AHEAD, first to those that have nothing."""
        if self._asked is not None and not self._plan.owed:
            self._send(self._asked)
            return
        for depth in range(AHEAD):
            for worker in self._heard:
                if self._plan.out(worker) == depth and (unit := self._plan.take(worker)) is not None:
                    if not depth:
                        self._heard[worker] = self._clock()
                        self._tallies[worker].turn(self._clock(), True)
                    self._hands.give(worker, unit)

    def _send(self, asked: Asked) -> None:
        """Gives an errand to the worker that can do it best, once all are idle."""
        if asked.worker is not None or self._plan.busy:
            return
        how_well = {worker: asked.fits(self._tallies[worker].facts) for worker in sorted(self._heard)}
        asked.worker = max((worker for worker in how_well if how_well[worker]), key=how_well.__getitem__, default=None)
        if asked.worker is not None:
            for tally in (self._tallies[worker] for worker in self._heard):
                tally.pause(self._clock())
            self._heard[asked.worker] = self._clock()
            self._hands.give(asked.worker, asked.errand)
        elif self._heard and not self._starting:
            self._asked = None
            asked.hear(Failed(stage="", error=NOBODY, message="; ".join(asked.deaths) or "no worker is of that kind"))

    def _does_errand(self, worker: int) -> bool:
        return self._asked is not None and self._asked.worker == worker

    def _of_errand(self, worker: int, asked: Asked, event: Event | Done) -> None:
        if not isinstance(event, Found):
            self._asked = None
        asked.hear(event if isinstance(event, Found | Failed) else About(facts=self._tallies[worker].facts))

    def _repeat(self, asked: Asked, why: str) -> None:
        """The worker that did an errand is lost. Another one does all of it, unless it ended several."""
        asked.worker = None
        asked.deaths.append(why)
        asked.hear(Lost(why=why))
        if len(asked.deaths) >= DEATHS:
            self._asked = None
            asked.hear(Failed(stage="", error="WorkerLost", message=(
                f"it ended {len(asked.deaths)} workers: {'; '.join(asked.deaths)}")))

    def _came_back(self) -> None:
        """The time that the driver was elsewhere is not held against workers: they may have waited for it."""
        away = self._clock() - self._left_at
        self._heard = {worker: heard + away for worker, heard in self._heard.items()}

    def _patience(self, timeout: float) -> float:
        """No longer than until the next worker is silent for too long."""
        if not self._limit:
            return timeout
        now = self._clock()
        return max(0.0, min([timeout, *(until - now for until in self._deadlines().values())]))

    def _deadlines(self) -> dict[int, float]:
        at_work = {worker: heard + self._limit for worker, heard in self._heard.items()
                   if self._plan.out(worker) or self._does_errand(worker)}
        return at_work | {worker: since + self._limit_of(worker) for worker, since in self._starting.items()}

    def _limit_of(self, worker: int) -> float:
        """After how many seconds without a sign of life a worker is ended."""
        return max(self._limit, START_SECONDS) if worker in self._starting else self._limit

    def _end_silent(self) -> list[Arrival]:
        if not self._limit:
            return []
        now = self._clock()
        late = [worker for worker, until in self._deadlines().items() if until <= now]
        return [one for worker in late for one in self._end(worker, (
            f"sent nothing for {self._limit_of(worker):g} s and was ended; give more time with --worker-timeout if it was only "
            "slow"))]

    def _end(self, worker: int, why: str) -> list[Arrival]:
        self._hands.stop(worker)
        return [*self._lose(worker, why)]

    def _take(self, worker: int, event: About | Event | Done | Lost) -> Iterator[Arrival]:
        if isinstance(event, Lost):
            yield from self._lose(worker, event.why)
        elif isinstance(event, About):
            self._admit(worker, event)
        elif worker in self._heard:  # else it was ended, and this was on its way
            now = self._clock()
            if self._asked is not None and self._does_errand(worker):
                self._heard[worker] = now
                self._of_errand(worker, self._asked, event)
                return
            self._pace.note(event, now - self._heard[worker])
            self._heard[worker] = now
            piece = self._plan.current(worker)
            if piece is None or isinstance(event, Found):
                yield from self._end(worker, f"sent {type(event).__name__}, which it was not asked for")
            else:
                yield from self._of_unit(worker, piece.unit, event, wanted=not piece.withdrawn)

    def _of_unit(self, worker: int, unit: Unit, event: _OfUnit, *, wanted: bool) -> Iterator[Arrival]:
        """What came of the piece that a worker makes, which is `wanted` or withdrawn."""
        if isinstance(event, Ready):
            if wanted and unit.number not in self._ready:
                self._ready.add(unit.number)
                yield Arrival(worker=worker, unit=unit, event=event)
        elif isinstance(event, Batch):
            try:
                self._plan.arrived(worker, [picture.cell for picture in event.pictures])
            except KeyError as error:
                yield from self._end(worker, f"sent an image that it was not asked for ({error.args[0]})")
                return
            if wanted:
                self._tallies[worker].images += len(event.pictures)
                yield Arrival(worker=worker, unit=unit, event=event)
        elif isinstance(event, Unfit):
            yield from self._bar(worker, unit, event.why)
        elif isinstance(event, Done):
            if wanted and (left := self._plan.left(worker)):
                yield from self._end(worker, f"left out {left} of the images that it was asked for")
                return
            if self._plan.ended(worker):
                yield Arrival(worker=worker, unit=unit, event=event)
            self._turn(worker)
        else:
            yield from self._ended_by(worker, unit, event, wanted=wanted)

    def _ended_by(self, worker: int, unit: Unit, event: _Ending, *, wanted: bool) -> Iterator[Arrival]:
        """The unit is not made any further. If it failed, nor are those after it: one process would not come to them."""
        if wanted and isinstance(event, Failed):
            yield from self._failed(worker, event, lambda one: _after(one, unit), unit.candidate.name)
        elif wanted:
            self._plan.withdraw(lambda one: one.number == unit.number, {unit.candidate.name})
            yield Arrival(worker=worker, unit=unit, event=event)
        self._plan.ended(worker)
        self._turn(worker)

    def _bar(self, worker: int, unit: Unit, why: str) -> Iterator[Arrival]:
        name, sentence = name_of(worker, self._tallies[worker].facts), self._unfit.get(unit.candidate.name)
        self._unfit[unit.candidate.name] = f"{name}: {why}"
        if sentence != self._unfit[unit.candidate.name]:  # it may have had two pieces
            self._say(f"candidate {unit.candidate.name!r}: {name} cannot make its images: {why}")
        nobody = self._plan.bar(worker)
        self._turn(worker)
        if nobody and not self._starting:
            yield from self._without_worker(unit.candidate.name, worker)

    def _given_up(self) -> list[Arrival]:
        """Where all that could make a candidate are gone, and those that are left cannot."""
        if self._starting or not self._heard or any(self._plan.out(worker) for worker in self._heard):
            return []
        return [one for name in self._plan.candidates for one in self._without_worker(name, -1)]

    def _without_worker(self, name: str, worker: int) -> list[Arrival]:
        failed = Failed(stage=MATERIALISE, error="OtherFiles", message=self._unfit.get(name, "no worker takes it"))
        return self._failed(worker, failed, lambda _: True, name)

    def _failed(self, worker: int, failed: Failed, lost: Callable[[Unit], bool], candidate: str) -> list[Arrival]:
        """Ends the units of a candidate that are `lost` by a failure, each for itself: someone may wait for any of them."""
        return [Arrival(worker=worker, unit=one, event=failed) for one in self._plan.withdraw(lost, {candidate})]

    def _turn(self, worker: int) -> None:
        if worker in self._heard and not self._plan.out(worker):
            self._tallies[worker].turn(self._clock(), False)

    def _admit(self, worker: int, about: About) -> None:
        """Lets a worker take part, unless its images would differ."""
        if about.job != self._job.number or self._starting.pop(worker, None) is None:
            return
        why = about.refusal or difference(self._job, about.facts)
        if why:
            self._hands.stop(worker)
            self._gone.append(f"{name_of(worker, about.facts)} does not take part: {why}")
            self._say(self._gone[-1])
            return
        self._heard[worker] = self._clock()
        self._tallies[worker] = Tally(worker, about.facts, self._clock())
        self._plan.join(worker)

    def _lose(self, worker: int, why: str) -> Iterator[Arrival]:
        """A worker is gone. What it had is owed again, and it is replaced, unless it did not even start."""
        if self._starting.pop(worker, None) is not None:
            self._gone.append(f"worker {worker} did not start: {why}")
            self._say(self._gone[-1])
            return
        if self._heard.pop(worker, None) is None:
            return
        piece, tally = self._plan.current(worker), self._tallies[worker]
        name = name_of(worker, tally.facts)
        tally.end(self._clock(), why, self._plan.missing(worker))
        self._gone.append(f"{name} was lost: {why}")
        if piece is not None:
            self._why.setdefault(piece.unit.number, []).append(f"{name}: {why}")
        if self._asked is not None and self._does_errand(worker):
            self._repeat(self._asked, f"{name}: {why}")
        blamed, complete = self._plan.lost(worker)
        for unit in complete:
            yield Arrival(worker=worker, unit=unit, event=Done())
        if blamed is not None:
            whys, culprit = self._why[blamed.number], blamed
            failed = Failed(stage=SAMPLE, error="WorkerLost",
                            message=f"it ended {len(whys)} workers at the same images: {'; '.join(whys)}")
            yield from self._failed(worker, failed, lambda one: _after(one, culprit), culprit.candidate.name)
        self._say(f"{self._gone[-1]}; what it was doing is done again")
        if self.owed:
            self._start(1)
        else:
            self._to_replace += 1

    def _worth_sharing(self, batches: int, workers: int) -> bool:
        """Whether a candidate that others make, of which so many batches wait, is worth preparing once more: if they would take
        longer for it than one more worker needs to prepare and make its first batch."""
        return batches * self._pace.batch / max(1, workers) >= self._pace.prepare + self._pace.batch


def _after(one: Unit, other: Unit) -> bool:
    """Whether a unit is another one, or would be made after it for the same candidate."""
    return one.number == other.number or (one.candidate.name == other.candidate.name and one.place >= other.place)
