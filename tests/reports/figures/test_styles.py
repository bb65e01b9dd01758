"""The radar of looks holds the planted leanings, and says what two parents have in common."""

from __future__ import annotations

import pytest

from reports.figures.styles import leanings, mean_leanings, overlap
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation


def test_the_outline_of_a_parent_is_its_mean_leanings(merge_run: Run, merge_verdict: Recommendation) -> None:
    figure = leanings(merge_run, merge_verdict)
    parent = next(t for t in figure.data if "parent A" in t.name)
    assert list(parent.theta) == ["photo", "anime", "oil", "photo"]
    assert list(parent.r) == pytest.approx([0.9, 0.0, 0.1, 0.9])


def test_two_parents_share_what_both_have() -> None:
    assert overlap({"photo": 0.9, "anime": 0.0, "oil": 0.1}, {"photo": 0.1, "anime": 0.8, "oil": 0.1}) == pytest.approx(0.2)


def test_a_model_shares_everything_with_itself() -> None:
    assert overlap({"photo": 0.3, "anime": 0.7}, {"photo": 0.3, "anime": 0.7}) == pytest.approx(1.0)


def test_the_page_says_how_far_the_parents_complement_each_other(merge_run: Run, merge_verdict: Recommendation) -> None:
    said, consistent = leanings(merge_run, merge_verdict).layout.meta["says"]
    assert "alpha 0 (parent A) 100.0 %" in consistent
    assert "share 20 % of their style probabilities; 80 %" in said


def test_a_run_without_looks_has_no_leanings(quantization_run: Run) -> None:
    assert mean_leanings(quantization_run, "no such candidate", 3.0) == {}
