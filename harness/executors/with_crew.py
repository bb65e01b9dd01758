"""Units made by several workers elsewhere: a thread takes what arrives, of whichever unit, and writes it at once."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

from harness.executors.contract import Batch, Done, Errand, Event, Failed, Found, Job, Lost, Ready, Unit
from harness.executors.crew import Arrival, Crew, NoWorkerError
from harness.executors.errands import Asked, Heard
from harness.executors.in_process import InProcess
from harness.executors.staff import Staff
from harness.records.harmless_text import printable
from harness.records.worker_sessions import WorkerWork

Awaited = TypeVar("Awaited")

PATIENCE_SECONDS: Final = 0.05
"""How long an order waits for arrivals."""


class ErrandError(Exception):
    """An errand failed; `failed` says how."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message)
        self.failed = failed


@dataclass(kw_only=True, eq=False)
class _Handed:
    """A unit that is owed, and what is known of it besides its batches, which `write` takes as they arrive."""

    unit: Unit
    write: Callable[[Batch], None]
    news: SimpleQueue[Event | Done | BaseException] = field(default_factory=SimpleQueue)
    turn: threading.Lock = field(default_factory=threading.Lock)
    dropped: bool = False
    ended: bool = False
    """Whether the crew owes nothing more of it."""


class WithCrew:
    """Has a crew make units, those handed `ahead` and those that are run. It is started with the first, and is used by the one
    thread of the staff, which gets it back at the end."""

    def __init__(self, staff: Staff, new_crew: Callable[[Callable[[str], None]], Crew], say: Callable[[str], None],
                 worked: Callable[[float, Sequence[WorkerWork]], None], *, here: InProcess | None = None,
                 keep: bool = False) -> None:
        """`new_crew` takes what is called with sentences about workers; `say` gets them on the thread that waits for units. When
        the workers have ended, `worked` is called with the seconds for which images were owed, and what each worker did. Those
        that are to `keep` go on living, for another job. `here` makes what is not worth their start."""
        self._staff, self._new_crew, self._say, self._worked, self._keep = staff, new_crew, say, worked, keep
        self._here = here
        self._notes: deque[str] = deque()
        self._owed_seconds = 0.0
        self._crew: Crew | None = None
        self._pumping: threading.Event | None = None
        self._orders: deque[Callable[[Crew], None]] = deque()
        self._wake, self._ending = threading.Event(), False
        self._handed: dict[int, _Handed] = {}
        self._of_candidate: dict[str, dict[int, _Handed]] = {}
        self._broken: BaseException | None = None

    def hand(self, unit: Unit, write: Callable[[Batch], None]) -> None:
        """Hands a unit over ahead of the time when it is run. `write` is called with its batches, on another thread."""
        own = self._handed[unit.number] = _Handed(unit=unit, write=write)
        self._of_candidate.setdefault(unit.candidate.name, {})[unit.number] = own
        self._order(lambda crew: crew.owe([unit]))

    def handed(self, candidate: str) -> list[Unit]:
        """The units of a candidate that were handed over and neither run nor dropped, in order."""
        return [one.unit for _, one in sorted(self._of_candidate.get(candidate, {}).items())]

    def run(self, unit: Unit, write: Callable[[Batch], None]) -> Iterator[Event]:
        """Yields what a worker says of a unit besides its batches, what ends it when these are written. One that was not handed
        over is, now. An error of `write`, and one of the whole crew, is raised."""
        if self._here is not None and self._pumping is None and (unit.floor or not unit.cells):
            yield from self._here.run(unit, write)
            return
        if unit.number not in self._handed:
            self.hand(unit, write)
        own = self._handed[unit.number]
        try:
            while True:
                news = self._next(own.news)
                if isinstance(news, BaseException):
                    raise news
                own.ended = not isinstance(news, Ready)
                if isinstance(news, Done):
                    return
                yield news
                if not isinstance(news, Ready):
                    return
        finally:
            self._drop([own])

    @property
    def starting(self) -> bool:
        """Whether no worker takes part yet."""
        return self._crew is None or not self._crew.workers

    def drop(self, unwanted: Callable[[Unit], bool]) -> list[Unit]:
        """Forgets units that were handed over; when it returns, nothing more of them is written. Returns them in order."""
        return self._dropped([one for _, one in sorted(self._handed.items()) if unwanted(one.unit)])

    def drop_candidate(self, name: str) -> None:
        """Forgets the units of a candidate that were handed over, as `drop` does."""
        self._dropped([*self._of_candidate.get(name, {}).values()])

    def errand(self, errand: Errand, fits: Callable[[Mapping[str, Any]], int] = lambda _: 1,
               news: Callable[[Any], None] = lambda _: None,
               lost: Callable[[str], None] = lambda _: None) -> tuple[Any, Mapping[str, Any]]:
        """Has the one worker that `fits` best do an errand while all others idle, and calls `news` with what it says on the way.
        Returns its result and the facts of the worker. If that is lost, `lost` is called, and another one does all of it. Raises
        ErrandError."""
        heard: SimpleQueue[Heard] = SimpleQueue()
        self._order(lambda crew: crew.ask(Asked(errand=errand, hear=heard.put, fits=fits)))
        found: Any = None
        while True:
            event = self._next(heard)
            if isinstance(event, BaseException):
                raise event
            if isinstance(event, Failed):
                raise ErrandError(event)
            if isinstance(event, Found):
                found = event.value
                news(found)
            elif isinstance(event, Lost):
                lost(event.why)
            else:
                return found, event.facts

    def begin(self, job: Job, limit: float) -> None:
        """Gives the workers, who were only asked what they are, another job."""
        def take(crew: Crew) -> None:
            self._crew = crew.next(job, limit=limit, say=self._notes.append)
            self._crew.start()

        self._order(take)

    def end(self) -> None:
        """Ends all workers, or lets them rest where they are kept; the next unit starts others, or gives these work."""
        if (pumping := self._pumping) is None:
            return
        self._ending = True
        self._wake.set()
        pumping.wait()
        self._say_notes()
        self._pumping, self._ending, self._broken = None, False, None
        if self._crew is not None:
            self._worked(self._owed_seconds, self._crew.work())
        self._crew = None
        self._handed.clear()
        self._of_candidate.clear()
        self._orders.clear()

    def _next(self, news: SimpleQueue[Awaited]) -> Awaited | NoWorkerError:
        while True:
            self._say_notes()
            try:
                return news.get(timeout=0.5)
            except Empty:
                if self._broken is not None:
                    return NoWorkerError(printable(str(self._broken) or type(self._broken).__name__))

    def _say_notes(self) -> None:
        while self._notes:
            self._say(self._notes.popleft())

    def _drop(self, handed: Sequence[_Handed]) -> None:
        for one in handed:
            with one.turn:
                one.dropped = True
            self._handed.pop(one.unit.number, None)
            own = self._of_candidate.get(one.unit.candidate.name, {})
            own.pop(one.unit.number, None)
            if not own:
                self._of_candidate.pop(one.unit.candidate.name, None)
        owed = [one.unit for one in handed if not one.ended]
        if numbers := {unit.number for unit in owed}:
            names = {unit.candidate.name for unit in owed}
            self._order(lambda crew: crew.withdraw(lambda unit: unit.number in numbers, names))

    def _dropped(self, handed: Sequence[_Handed]) -> list[Unit]:
        self._drop(handed)
        return [one.unit for one in handed]

    def _order(self, order: Callable[[Crew], None]) -> None:
        self._orders.append(order)
        if self._pumping is None:
            self._pumping = self._staff.run(self._pump)
        self._wake.set()

    def _pump(self) -> None:
        try:
            self._crew = self._new_crew(self._notes.append)
            try:
                self._crew.start()
                while not self._ending:
                    self._turn(self._crew)
            except BaseException:
                self._crew.close()
                raise
            self._staff.let_go(self._crew, keep=self._keep)
        except BaseException as error:  # the thread that waits for units raises it
            self._broken = error

    def _turn(self, crew: Crew) -> None:
        while self._orders:
            self._orders.popleft()(crew)
            crew = self._crew or crew
        if not crew.owed:
            self._wake.wait(PATIENCE_SECONDS)
            self._wake.clear()
            return
        began, measuring = time.monotonic(), crew.asked
        for arrival in crew.arrivals(PATIENCE_SECONDS):
            self._take(arrival)
        self._owed_seconds += 0.0 if measuring else time.monotonic() - began

    def _take(self, arrival: Arrival) -> None:
        own = self._handed.get(arrival.unit.number)
        if own is None:
            return
        if not isinstance(arrival.event, Batch):
            own.news.put(arrival.event)
            return
        with own.turn:
            if own.dropped:
                return
            try:
                own.write(arrival.event)
            except Exception as error:  # of a full disk: that of the candidate whose images they are
                own.news.put(error)
                own.dropped = True

