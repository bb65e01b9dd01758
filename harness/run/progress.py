"""The progress display of a run: one bar with an estimate of the time left, or plain lines without a terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from harness.records.harmless_text import printable

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

LINE_EVERY_SECONDS = 10.0
"""Seconds between two lines of a log while images are sampled."""
HEARTBEAT_SECONDS = 30.0
"""Most seconds without a line in a log."""


class Progress(Protocol):
    """Is told about every finished unit (an image sampled, reused or given up) and every stage that begins."""

    def advance(self, units: int, doing: str) -> None:
        """`units` more are done. `doing` describes the current work in a few words."""

    def begin(self, doing: str) -> None:
        """Work begins that takes a while and finishes no unit: reading files, timing, writing a page."""


class Display(Progress, Protocol):
    """A Progress that is on the screen between `start` and `stop`."""

    def expect(self, units: int) -> None:
        """Adds `units` to the total."""

    def start(self) -> None:
        """Shows it."""

    def stop(self) -> None:
        """Takes it off the screen."""


class Silent:
    """Shows nothing."""

    def advance(self, units: int, doing: str) -> None:
        """Ignored."""

    def begin(self, doing: str) -> None:
        """Ignored."""

    def expect(self, units: int) -> None:
        """Ignored."""

    def start(self) -> None:
        """Does nothing."""

    def stop(self) -> None:
        """Does nothing."""


class Bar:
    """A rich progress bar on a terminal or in a notebook. Elsewhere (a CI log) a line every ten seconds while images are sampled,
    and at least one every thirty seconds otherwise."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic, unit: str = "images") -> None:
        self.unit = unit
        self.total, self.done, self.doing, self.clock = total, 0, "starting", clock
        self.rich: RichProgress | None = None
        self.heartbeat = Heartbeat(self._line, clock)
        self._started: float | None = None
        self._lines = threading.Lock()
        self._mid_line = True

    def start(self) -> None:
        """Shows the bar, on standard error so that piped output stays clean."""
        self._started = self.clock() if self._started is None else self._started
        self._mid_line = True  # whoever shows it may have written half a line, as pytest does
        if self.rich is not None:
            return
        if not (sys.stderr.isatty() or in_notebook()):
            self.heartbeat.start()
            return
        from rich import progress
        from rich.console import Console

        self.rich = progress.Progress(
            progress.SpinnerColumn(), progress.TextColumn("{task.description}", markup=False), progress.BarColumn(),
            progress.MofNCompleteColumn(), progress.TimeElapsedColumn(), progress.TextColumn("left"),
            progress.TimeRemainingColumn(), console=Console(stderr=True), transient=True)
        self.task = self.rich.add_task(self.doing, total=self.total, completed=self.done)
        self.rich.start()

    def stop(self) -> None:
        """Takes the bar off the screen."""
        self.heartbeat.stop()
        if self.rich is not None:
            self.rich.stop()
            self.rich = None

    def expect(self, units: int) -> None:
        """Adds `units` to the bar's total."""
        self.total += units
        if self.rich is not None:
            self.rich.update(self.task, total=self.total)

    def begin(self, doing: str) -> None:
        """Shows what is being done from now on."""
        self.doing = printable(doing)[:60]
        if self.rich is not None:
            self.rich.update(self.task, description=self.doing)

    def advance(self, units: int, doing: str) -> None:
        """Moves the bar on."""
        self.done += units
        self.begin(doing)
        if self.rich is not None:
            self.rich.update(self.task, completed=self.done)
        elif self.clock() - self.heartbeat.last >= LINE_EVERY_SECONDS:
            self._line()

    def _line(self) -> None:
        """Prints one line of a log: units done, elapsed time, time left, and current work."""
        with self._lines:
            now = self.clock()
            self.heartbeat.last = now
            elapsed = now - (now if self._started is None else self._started)
            left = f"about {(self.total - self.done) * elapsed / self.done:.0f} s left" if self.done else "time left unknown"
            before, self._mid_line = "\n" if self._mid_line else "", False
            print(f"{before}[{self.done}/{self.total} {self.unit}, {elapsed:.0f} s, {left}] {self.doing}", file=sys.stderr,
                  flush=True)


class Heartbeat:
    """Calls `line` from a separate thread whenever HEARTBEAT_SECONDS have passed since `last`. The thread wakes only when a line
    may be due, so it does not disturb timing. `wait` sleeps for at most the given seconds and returns whether to end."""

    def __init__(self, line: Callable[[], None], clock: Callable[[], float],
                 wait: Callable[[float], bool] | None = None) -> None:
        self.last = clock()
        self._say, self._clock = line, clock
        self._ended = threading.Event()
        self._wait = self._ended.wait if wait is None else wait
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread."""
        if self._thread is None:
            self._ended.clear()
            self._thread = threading.Thread(target=self.run, name="sweetspot-heartbeat", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ends the thread, after the line that it may be writing."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._thread = None

    def run(self) -> None:
        """Calls `line` until `wait` returns true."""
        while not self._wait(max(0.0, HEARTBEAT_SECONDS - (self._clock() - self.last))):
            if self._clock() - self.last >= HEARTBEAT_SECONDS:
                self._say()


def in_notebook() -> bool:
    """Whether rich can draw in a Jupyter notebook here; it needs ipywidgets."""
    if "IPython" not in sys.modules or find_spec("ipywidgets") is None:
        return False
    from rich.console import Console

    return Console().is_jupyter
