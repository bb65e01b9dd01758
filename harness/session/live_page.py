"""The page of a suite while it runs: written before the first image, and again while candidates are sampled. Errors here never
stop a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Final

from harness.declare import Suite
from harness.records import Look
from harness.run.progress import Progress

LEAST_SECONDS: Final = 5.0
"""Least seconds between two writes."""
SHARE: Final = 20.0
"""The pause after a write, as a multiple of its duration: writing takes at most 1/21 of the time."""


class LivePage:
    """The unfinished page of one suite, in its run folder.

    `tick` is called from the thread that samples and from the one that writes images. The journal is append-only, so a page can
    be made from the disk at any time. `looks` are the looks of a race so far, None without a budget. With `fresh`, images of
    candidates that are not in `begun` are from an earlier session and will not count. `clock` returns seconds.
    """

    def __init__(self, folder: Path, suite: Suite, *, budget: float, fresh: bool = False,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.folder, self.suite, self.budget, self.fresh, self.clock = folder, suite, budget, fresh, clock
        self.looks: Sequence[Look] | None = None if suite.budget is None else ()
        self.finished = False
        self.trouble = ""
        self._wait, self._due = LEAST_SECONDS, 0.0
        self._turn = Lock()
        self._begun: set[str] = set()

    def opened(self) -> str:
        """Writes the first page, when the run folder is open and nothing is sampled yet. Returns its address, or an empty string
        if it could not be written."""
        # The imports are needed at the end in any case, so their time does not count for the page.
        from reports.page import live

        del live
        self._write("reading model files")
        return "" if self.trouble else (self.folder / "report.html").absolute().as_uri()

    def watched(self, progress: Progress, candidate: str) -> Progress:
        """A Progress for a candidate that begins. It forwards everything to `progress`, and writes pages."""
        self._begun.add(candidate)
        return _Watched(self, progress)

    def tick(self, doing: str) -> None:
        """Writes the page if it is due, unless another thread is writing it or the finished page exists."""
        if not self.finished and self.clock() >= self._due and self._turn.acquire(blocking=False):
            try:
                self._write(doing)
            finally:
                self._turn.release()

    def _write(self, doing: str) -> None:
        from reports.page.live import Moment, write_live

        began = self.clock()
        moment = Moment(doing=doing, every=self._wait, looks=self.looks, anew=self._to_be_forgotten())
        try:
            write_live(self.folder, moment, self.budget)
        except Exception as error:
            self.trouble = self.trouble or f"{type(error).__name__}: {error}"
        took = self.clock() - began
        self._wait = max(LEAST_SECONDS, SHARE * took)
        self._due = self.clock() + self._wait

    def _to_be_forgotten(self) -> frozenset[str]:
        return frozenset(c.name for c in self.suite.candidates if c.name not in self._begun) if self.fresh else frozenset()


class _Watched:
    """A Progress that forwards everything and then writes the page, if it is due."""

    def __init__(self, page: LivePage, progress: Progress) -> None:
        self.page, self.progress = page, progress

    def advance(self, units: int, doing: str) -> None:
        """`units` more are done."""
        self.progress.advance(units, doing)
        self.page.tick(doing)

    def begin(self, doing: str) -> None:
        """Something begins; the page waits for the next image."""
        self.progress.begin(doing)
