"""Hands our latency samples to pytest-benchmark, which tabulates, stores and compares them; it never runs a stopwatch
here. The plugin calls it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


def carry(item: pytest.Item, suite: str, seconds: Sequence[float], extra: dict[str, Any]) -> None:
    """Adds one row to pytest-benchmark's session: `seconds` per image, one entry per round, in group `suite`.

    pytest-benchmark's own loop calls a function as often as its calibration likes; a picture is too dear for that, so
    the finished samples are put where its fixture would have put its own. Nothing happens when it is disabled.
    """
    from pytest_benchmark.fixture import BenchmarkFixture
    from pytest_benchmark.stats import Metadata

    session = getattr(item.config, "_benchmarksession", None)
    if session is None or session.disabled or session.skip:
        return
    fixture = BenchmarkFixture(item, add_stats=session.benchmarks.append, logger=session.logger, warner=item.warn,
                               disabled=False, group=f"{suite}: seconds per image at batch 1", **session.options)
    fixture.extra_info.update(extra)
    row = Metadata(fixture, iterations=1, options={"timer": "harness.probes.clock", "rounds": len(seconds)})
    for value in seconds:
        row.update(value)
    session.benchmarks.append(row)
