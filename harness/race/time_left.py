"""The minutes of a budget: what is left of them, and what more images will take at the pace of the session so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from harness.race.interim_looks import Rectangle
from harness.records import Sample


class _Images(Protocol):
    def at_hand(self, name: str) -> list[Sample]:
        """The images of a candidate that exist."""


class _Run(Protocol):
    @property
    def gallery(self) -> _Images:
        """The images of the run."""

    @property
    def work_made(self) -> float:
        """The work of the images that this session made."""

    @property
    def started(self) -> float:
        """When the session began, in seconds of the clock."""


class TimeLeft:
    """The time of one session. Its pace is everything that passed since it began, with reading, merging and measuring, for the
    work of the images that it made: an image of 30 steps takes longer than one of 4. Images of earlier sessions take no time."""

    def __init__(self, minutes: float, run: _Run, clock: Callable[[], float] = time.monotonic,
                 scales_of: Callable[[str], Collection[float] | None] = lambda _: None,
                 work_of: Callable[[str, float], float] = lambda *_: 1.0) -> None:
        """`scales_of` gives a candidate's own guidance scales, None for those that it is asked for, and `work_of` the work of an
        image of it at a scale."""
        self.minutes, self._run, self._clock = minutes, run, clock
        self._scales_of, self._work_of = scales_of, work_of

    def left(self, reserved_seconds: float = 0.0) -> float | None:
        """Seconds left, less those that are reserved; None without a limit."""
        return 60 * self.minutes - self._elapsed() - reserved_seconds if self.minutes else None

    def seconds_of(self, work: float) -> float:
        """Seconds that images of so much work will take; 0 while no pace is known."""
        return work * self._elapsed() / self._run.work_made if self._run.work_made else 0.0

    def seconds(self, plans: Iterable[Rectangle]) -> float:
        """Seconds that those images of the rectangles will take that do not exist yet."""
        absent = {(name, cell) for plan in plans for name in plan.candidates for cell in plan.cells(self._scales_of(name))}
        absent -= {(name, sample.cell) for name in {name for name, _ in absent} for sample in self._run.gallery.at_hand(name)}
        return self.seconds_of(sum(self._work_of(name, cell.guidance) for name, cell in absent))

    def _elapsed(self) -> float:
        return self._clock() - self._run.started
