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
    def images_made(self) -> int:
        """The number of images that this session made."""

    @property
    def started(self) -> float:
        """When the session began, in seconds of the clock."""


class TimeLeft:
    """The time of one session. Its pace is everything that passed since it began, with reading, merging and measuring, per image
    that it made. Images of earlier sessions take no time."""

    def __init__(self, minutes: float, run: _Run, clock: Callable[[], float] = time.monotonic,
                 scales_of: Callable[[str], Collection[float] | None] = lambda _: None) -> None:
        """`scales_of` gives a candidate's own guidance scales; None for those that it is asked for."""
        self.minutes, self._run, self._clock, self._scales_of = minutes, run, clock, scales_of

    def left(self, reserved_images: int = 0) -> float | None:
        """Seconds left, less those that the reserved images will take; None without a limit."""
        if not self.minutes:
            return None
        return 60 * self.minutes - self._elapsed() - self.seconds_of(reserved_images)

    def seconds_of(self, images: int) -> float:
        """Seconds that so many images will take; 0 while no pace is known."""
        return images * self._elapsed() / self._run.images_made if self._run.images_made else 0.0

    def seconds(self, plans: Iterable[Rectangle]) -> float:
        """Seconds that those images of the rectangles will take that do not exist yet."""
        absent = 0
        for plan in plans:
            absent += sum(len(set(plan.cells(self._scales_of(name)))
                              - {sample.cell for sample in self._run.gallery.at_hand(name)}) for name in plan.candidates)
        return self.seconds_of(absent)

    def _elapsed(self) -> float:
        return self._clock() - self._run.started
