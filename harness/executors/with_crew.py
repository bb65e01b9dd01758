"""Units made by several workers elsewhere: a thread takes what arrives, of whichever unit, and writes it at once."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Final

from harness.executors.contract import Batch, Done, Event, Ready, Unit
from harness.executors.crew import Arrival, Crew, NoWorkerError
from harness.records.worker_sessions import WorkerWork

PATIENCE_SECONDS: Final = 0.05
"""How long an order waits for arrivals."""


@dataclass(kw_only=True, eq=False)
class _Handed:
    """A unit that is owed, and what is known of it besides its batches, which `write` takes as they arrive."""

    unit: Unit
    write: Callable[[Batch], None]
    news: SimpleQueue[Event | Done | BaseException] = field(default_factory=SimpleQueue)
    turn: threading.Lock = field(default_factory=threading.Lock)
    dropped: bool = False


class WithCrew:
    """Has a crew make units, those handed `ahead` and those that are run. The crew is started with the first, by `new_crew`, and
    is used by one thread alone."""

    def __init__(self, new_crew: Callable[[Callable[[str], None]], Crew], say: Callable[[str], None],
                 worked: Callable[[float, Sequence[WorkerWork]], None]) -> None:
        """`new_crew` takes what is called with sentences about workers; `say` gets them on the thread that waits for units. When
        the workers have ended, `worked` is called with the seconds for which images were owed, and what each worker did."""
        self._new_crew, self._say, self._worked = new_crew, say, worked
        self._notes: deque[str] = deque()
        self._owed_seconds = 0.0
        self._crew: Crew | None = None
        self._thread: threading.Thread | None = None
        self._orders: deque[Callable[[Crew], None]] = deque()
        self._wake, self._ending = threading.Event(), False
        self._handed: dict[int, _Handed] = {}
        self._broken: BaseException | None = None

    def hand(self, unit: Unit, write: Callable[[Batch], None]) -> None:
        """Hands a unit over ahead of the time when it is run. `write` is called with its batches, on another thread."""
        self._handed[unit.number] = _Handed(unit=unit, write=write)
        self._order(lambda crew: crew.owe([unit]))

    def handed(self, candidate: str) -> list[Unit]:
        """The units of a candidate that were handed over and neither run nor dropped, in order."""
        return [one.unit for _, one in sorted(self._handed.items()) if one.unit.candidate.name == candidate]

    def run(self, unit: Unit, write: Callable[[Batch], None]) -> Iterator[Event]:
        """Yields what a worker says of a unit besides its batches, what ends it when these are written. One that was not handed
        over is, now. An error of `write`, and one of the whole crew, is raised."""
        if unit.number not in self._handed:
            self.hand(unit, write)
        own = self._handed[unit.number]
        try:
            while True:
                news = self._next(own)
                if isinstance(news, BaseException):
                    raise news
                if isinstance(news, Done):
                    return
                yield news
                if not isinstance(news, Ready):
                    return
        finally:
            self._drop([own])

    def drop(self, unwanted: Callable[[Unit], bool]) -> list[Unit]:
        """Forgets units that were handed over; when it returns, nothing more of them is written. Returns them in order."""
        dropped = [one for _, one in sorted(self._handed.items()) if unwanted(one.unit)]
        self._drop(dropped)
        return [one.unit for one in dropped]

    def end(self) -> None:
        """Ends all workers; the next unit starts others."""
        if (thread := self._thread) is None:
            return
        self._ending = True
        self._wake.set()
        thread.join()
        self._say_notes()
        self._thread, self._ending, self._broken = None, False, None
        if self._crew is not None:
            self._worked(self._owed_seconds, self._crew.work())
        self._crew = None
        self._handed.clear()
        self._orders.clear()

    def _next(self, own: _Handed) -> Event | Done | BaseException:
        while True:
            self._say_notes()
            try:
                return own.news.get(timeout=0.5)
            except Empty:
                if self._broken is not None:
                    return NoWorkerError(str(self._broken) or type(self._broken).__name__)

    def _say_notes(self) -> None:
        while self._notes:
            self._say(self._notes.popleft())

    def _drop(self, handed: list[_Handed]) -> None:
        for one in handed:
            with one.turn:
                one.dropped = True
            self._handed.pop(one.unit.number, None)
        if numbers := {one.unit.number for one in handed}:
            self._order(lambda crew: crew.withdraw(lambda unit: unit.number in numbers))

    def _order(self, order: Callable[[Crew], None]) -> None:
        self._orders.append(order)
        if self._thread is None:
            self._thread = threading.Thread(target=self._pump, name="sweetspot-crew", daemon=True)
            self._thread.start()
        self._wake.set()

    def _pump(self) -> None:
        try:
            self._crew = self._new_crew(self._notes.append)
            try:
                self._crew.start()
                while not self._ending:
                    self._turn(self._crew)
            finally:
                self._crew.close()
        except BaseException as error:  # the thread that waits for units raises it
            self._broken = error

    def _turn(self, crew: Crew) -> None:
        while self._orders:
            self._orders.popleft()(crew)
        if not crew.owed:
            self._wake.wait(PATIENCE_SECONDS)
            self._wake.clear()
            return
        began = time.monotonic()
        for arrival in crew.arrivals(PATIENCE_SECONDS):
            self._take(arrival)
        self._owed_seconds += time.monotonic() - began

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

