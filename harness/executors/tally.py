"""What each worker of a run did, and how long it takes: images, time at work and without work, and what was made again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.executors.contract import Batch, Done, Event, Ready
from harness.records.worker_sessions import WorkerWork


@dataclass
class Tally:
    """Counts for one worker, which began at a time of the driver's clock."""

    worker: int
    facts: Mapping[str, Any]
    since: float
    images: int = 0
    repeated: int = 0
    lost: str = ""
    _busy: bool = False
    _paused: bool = False
    _seconds: dict[bool, float] = field(default_factory=lambda: {True: 0.0, False: 0.0})

    def turn(self, now: float, busy: bool) -> None:
        """From now on the worker has something to make, or nothing."""
        self._seconds[self._busy] += 0.0 if self._paused else now - self.since
        self.since, self._busy, self._paused = now, busy, False

    def pause(self, now: float) -> None:
        """Until its next turn the worker's time is in neither: something is measured."""
        self.turn(now, False)
        self._paused = True

    def end(self, now: float, why: str, repeated: int) -> None:
        """The worker is gone; so many images that it was given are made by others."""
        self.turn(now, False)
        self.lost, self.repeated = why, self.repeated + repeated

    def work(self, now: float) -> WorkerWork:
        """What it did up to now, or to its end."""
        running = 0.0 if self.lost or self._paused else now - self.since
        seconds = {busy: total + (running if busy is self._busy else 0.0) for busy, total in self._seconds.items()}
        return WorkerWork(worker=self.worker, host=str(self.facts.get("host", "")),
                          process=int(self.facts.get("pid", 0)), device=str(self.facts.get("device", "")), images=self.images,
                          seconds_busy=seconds[True], seconds_waiting=seconds[False],
                          repeated=self.repeated, lost=self.lost)


class Pace:
    """How long it took lately to prepare a candidate, and on average to make a batch, in seconds."""

    def __init__(self) -> None:
        self.prepare, self._seconds, self._batches = 0.0, 0.0, 0

    @property
    def batch(self) -> float:
        """The mean of all batches so far."""
        return self._seconds / max(1, self._batches)

    def note(self, event: Event | Done, since_the_last: float) -> None:
        """Takes the time of one event."""
        if isinstance(event, Ready):
            self.prepare = event.seconds or self.prepare
        elif isinstance(event, Batch):
            self._seconds, self._batches = self._seconds + since_the_last, self._batches + 1
