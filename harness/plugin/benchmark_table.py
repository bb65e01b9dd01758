"""Passes our latency samples to pytest-benchmark, which tabulates, stores and compares them, but measures no time itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from harness.declare import Candidate
from harness.plugin.options import shows_timings

if TYPE_CHECKING:
    from harness.session.suite_session import SuiteSession

TIMER: Final = "harness.probes.clock"
"""The timer name of our rows, which distinguishes them from a user's own benchmarks."""


def carry(item: pytest.Item, of: SuiteSession, candidate: Candidate) -> None:
    """Adds one row to pytest-benchmark's session: seconds per image, one entry per round, in the suite's group. Does nothing for
    a candidate that was not timed, or if pytest-benchmark is disabled.

    pytest-benchmark's own loop decides how often it calls a function, and an image is too expensive for that. So the finished
    samples are stored where its fixture would store its own.
    """
    session = getattr(item.config, "_benchmarksession", None)
    latency = of.timing(candidate)
    if session is None or session.disabled or session.skip or latency is None:
        return
    seconds = latency.seconds["total"]
    from pytest_benchmark.fixture import BenchmarkFixture
    from pytest_benchmark.stats import Metadata

    fixture = BenchmarkFixture(item, add_stats=session.benchmarks.append, logger=session.logger, warner=item.warn,
                               disabled=False, group=f"{of.suite.name}: seconds per image at batch 1", **session.options)
    # pytest-benchmark dates the file as of today, also where the samples are of an earlier session.
    fixture.extra_info.update({"candidate": candidate.name, "key": candidate.key, "timed_at": latency.timed_at,
                               "environment": dict(latency.environment)})
    row = Metadata(fixture, iterations=1, options={"timer": TIMER, "rounds": len(seconds)})
    for value in seconds:
        row.update(value)
    session.benchmarks.append(row)


def hide_our_rows(config: pytest.Config) -> None:
    """Removes our rows from the tables that pytest-benchmark is about to print, unless the user asked for them. By then they are
    saved and compared. A user's own benchmarks keep their tables."""
    session = getattr(config, "_benchmarksession", None)
    if session is None or not session.groups or shows_timings(config):
        return
    groups: list[tuple[Any, list[Any]]] = [(name, [row for row in rows if row["options"].get("timer") != TIMER])
                                           for name, rows in session.groups]
    session.groups = [(name, rows) for name, rows in groups if rows]
