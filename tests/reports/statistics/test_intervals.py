"""The picture of docs/statistics.md: it shows every word, by the intervals it draws, and is the one that stands in the docs."""

from __future__ import annotations

from pathlib import Path

from reports.statistics.intervals import cluster_interval
from tests.benchmarks.intervals import AGAINST_LIMIT, AGAINST_ZERO, LIMIT, picture, verdict

DOCS = Path(__file__).parents[3] / "docs"


def test_the_picture_shows_every_word() -> None:
    said = []
    for rows, limit in ((AGAINST_ZERO, None), (AGAINST_LIMIT, LIMIT)):
        said += [verdict(cluster_interval(r.draw(), list(range(r.prompts))), limit) for r in rows]
    assert said == ["better", "worse", "tied", "tied", "passed", "failed", "inconclusive", "not measured"]


def test_the_picture_in_the_docs_is_the_one_that_is_drawn_and_it_is_referred_to() -> None:
    assert (DOCS / "statistics.svg").read_text(encoding="utf-8") == picture()
    assert "](statistics.svg)" in (DOCS / "statistics.md").read_text(encoding="utf-8")
