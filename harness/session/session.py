"""All suites of one session. They share options, a display and the device: before one is opened, the others release their
models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.check import resolved, same_name
from harness.declare import Grid, Suite
from harness.executors.staff import Staff
from harness.run.progress import Display
from harness.session.options import SessionOptions
from harness.session.suite_session import SuiteSession


class Session:
    """The suites that were declared to one session, in order. `say` prints a line at once."""

    def __init__(self, options: SessionOptions, display: Display, say: Callable[[str], None] = lambda _: None) -> None:
        self.options, self.display, self._say = options, display, say
        self.suites: list[SuiteSession] = []
        self._staff = Staff()
        self.unwritten: list[str] = []
        """What was to be written at the end and could not be."""

    def add(self, declared: object, suite_file: str) -> SuiteSession | None:
        """Adds the SUITE of a file. Returns None if it is not a Suite."""
        if not isinstance(declared, Suite):
            return None
        if self.options.exact and isinstance(declared.grid, Grid):
            declared = replace(declared, grid=replace(declared.grid, batch_size=1))
        written, declared = declared, resolved(declared, self.options.root)
        suite = SuiteSession(declared, suite_file, self.options, self.display, release_others=self._release, say=self._say)
        suite.written, suite.staff = written, self._staff
        for other in self.suites:
            suite.problems += same_name(declared, [(other.suite, other.suite_file)])
            other.problems += same_name(other.suite, [(declared, suite_file)])
        self.suites.append(suite)
        return suite

    def _release(self) -> None:
        for suite in self.suites:
            suite.release()

    def close(self) -> None:
        """Closes every run folder, and ends the workers."""
        try:
            for suite in self.suites:
                suite.close()
        finally:
            self._staff.end()
