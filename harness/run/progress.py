"""What a user sees while a run goes on: one bar with an estimate of the time left, or plain lines where there is no
terminal. plugin and cli make it."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol

from harness.records.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

LINE_EVERY_SECONDS = 10.0


class Progress(Protocol):
    """Told of every finished unit (an image sampled, reused or given up)."""

    def advance(self, units: int, doing: str) -> None:
        """`units` more are done; `doing` says in a few words what is going on."""


class Silent:
    """Shows nothing."""

    def advance(self, units: int, doing: str) -> None:
        """Takes note of nothing."""


class Bar:
    """A rich progress bar on a terminal; elsewhere (a CI log) one line every ten seconds."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.started, self.last_line = total, 0, time.monotonic(), 0.0
        self.rich: RichProgress | None = None

    def start(self) -> None:
        """Shows the bar; it is drawn on standard error so that piped output stays clean."""
        if self.rich is None and sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            self.rich = progress.Progress(
                progress.SpinnerColumn(), progress.TextColumn("{task.description}", markup=False), progress.BarColumn(),
                progress.MofNCompleteColumn(), progress.TimeElapsedColumn(), progress.TextColumn("left"),
                progress.TimeRemainingColumn(), console=Console(stderr=True), transient=True)
            self.task = self.rich.add_task("starting", total=self.total, completed=self.done)
            self.rich.start()

    def stop(self) -> None:
        """Takes the bar off the screen."""
        if self.rich is not None:
            self.rich.stop()
            self.rich = None

    def advance(self, units: int, doing: str) -> None:
        """Moves the bar on."""
        self.done += units
        doing = printable(doing)[:60]
        if self.rich is not None:
            self.rich.update(self.task, completed=self.done, description=doing)
            return
        now = time.monotonic()
        if now - self.last_line >= LINE_EVERY_SECONDS:
            self.last_line = now
            rate = self.done / max(now - self.started, 1e-9)
            left = f"{(self.total - self.done) / rate:.0f} s left" if self.done else "time left unknown"
            print(f"\n[{self.done}/{self.total} images, {left}] {doing}", file=sys.stderr, flush=True)
