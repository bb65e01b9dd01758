"""`--live`: the page of a suite is there before the first image and is written anew while its candidates are sampled.
The plugin's session tells it when a run is opened and what is going on; nothing that goes wrong here stops a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Final

import pytest

from harness.run.progress import Progress

if TYPE_CHECKING:
    from harness.plugin.session import SuiteSession

LEAST_SECONDS: Final = 5.0
"""Between two writings."""
SHARE: Final = 20.0
"""After a writing this many times as long as it took passes before the next, so that writing takes at most 1/21 of the time."""


def add_options(group: pytest.OptionGroup) -> None:
    """The flag of this module; inert without --benchmark."""
    group.addoption("--live", action="store_true", dest="sweetspot_live",
                    help="write the page before the first image, and anew while the run goes on; it is marked as unfinished, "
                         "and reloads itself")


class LivePages:
    """The unfinished pages of one session. All is inert without --live.

    Ticks come from the thread that samples and from the one that writes images; the journal is only ever appended to, so that
    a page can be made from the disk meanwhile. `clock` gives seconds.
    """

    def __init__(self, config: pytest.Config, clock: Callable[[], float] = time.monotonic) -> None:
        self.config, self.clock = config, clock
        self.on = bool(config.getoption("sweetspot_live"))
        self.writings: list[float] = []
        """Seconds that each writing took."""
        self._wait, self._due = LEAST_SECONDS, 0.0
        self._turn = Lock()
        self._troubles: dict[str, str] = {}
        self._begun: set[tuple[str, str]] = set()

    def opened(self, of: SuiteSession) -> None:
        """A run folder was opened and nothing is sampled yet: the first page, and where it is."""
        if not self.on:
            return
        # What is imported now is needed at the end in any case, and is no part of what a page costs.
        from reports.page import live

        del live
        self._write(of, "the model files are being looked at")
        if of.suite.name not in self._troubles:
            self._say(f"live page: {(of.folder / 'report.html').resolve().as_uri()}")

    def watched(self, of: SuiteSession, candidate: str) -> Progress:
        """The session's bar for a candidate that begins, and with --live one that also writes pages."""
        self._begun.add((of.suite.name, candidate))
        return _Watched(self, of) if self.on else of.session.bar

    def tick(self, of: SuiteSession, doing: str) -> None:
        """Writes the page if it is time; never while another thread does, and never over the finished one."""
        if self.on and of.page is None and self.clock() >= self._due and self._turn.acquire(blocking=False):
            try:
                self._write(of, doing)
            finally:
                self._turn.release()

    def closing(self) -> list[str]:
        """What went wrong, a line for each suite."""
        return [f"{name}: a live page could not be written ({why}); the run did not suffer by it"
                for name, why in self._troubles.items()]

    def _write(self, of: SuiteSession, doing: str) -> None:
        from reports.page.live import Moment, write_live

        began = self.clock()
        moment = Moment(doing=doing, every=self._wait, looks=of.looks_so_far, anew=self._to_be_forgotten(of))
        try:
            write_live(of.folder, moment, of.session.page_budget)
        except Exception as error:
            self._troubles.setdefault(of.suite.name, f"{type(error).__name__}: {error}")
        took = self.clock() - began
        self.writings.append(took)
        self._wait = max(LEAST_SECONDS, SHARE * took)
        self._due = self.clock() + self._wait

    def _to_be_forgotten(self, of: SuiteSession) -> frozenset[str]:
        """With --fresh the candidates whose images of an earlier session are still there, but will not count."""
        names = {c.name for c in of.suite.candidates} if of.session.options.fresh else set[str]()
        return frozenset(name for name in names if (of.suite.name, name) not in self._begun)

    def _say(self, line: str) -> None:
        """A line in the terminal at once, through pytest's capture."""
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        capture = self.config.pluginmanager.getplugin("capturemanager")
        if reporter is None:
            return
        if capture is None:
            reporter.write_line(line)
            return
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(line)


class _Watched:
    """A Progress that hands everything on to the bar and then lets the page be written, if it is time."""

    def __init__(self, pages: LivePages, of: SuiteSession) -> None:
        self.pages, self.of = pages, of

    def advance(self, units: int, doing: str) -> None:
        """`units` more are done."""
        self.of.session.bar.advance(units, doing)
        self.pages.tick(self.of, doing)
