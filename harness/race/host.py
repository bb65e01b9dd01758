"""The interface that a race needs from the code that runs it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Protocol

from harness.declare import Candidate
from harness.records import Cell, Failure
from harness.run.suite_run import SuiteRun


class Host(Protocol):
    """An open run, and the way to sample its candidates."""

    @property
    def folder(self) -> Path:
        """The run folder."""

    @property
    def selected(self) -> Sequence[str]:
        """The names of the candidates in the race."""

    @property
    def failed(self) -> AbstractSet[str]:
        """The names of the candidates that failed before the race."""

    def run(self) -> SuiteRun:
        """The open run."""

    def candidate(self, candidate: Candidate, cells: Iterable[Cell] | None = None) -> list[Failure]:
        """Samples a candidate on these cells, and no others; returns what failed."""

    def expect(self, images: int) -> None:
        """Announces that `images` more images will be sampled than were announced before."""
