"""Scored cells written by hand, for tests of what is read from them."""

from __future__ import annotations

from reports.statistics.intervals import Estimate
from reports.verdict.recommendation import Scored


def estimate(mean: float | None, low: float | None = None, high: float | None = None, error: float | None = None) -> Estimate:
    return Estimate(mean=mean, low=low, high=high, prompts=9, pairs=9, error=error)


def scored(candidate: str, guidance: float = 3.0, behind: Estimate | None = None, **changes: object) -> Scored:
    behind = estimate(0.0, 0.0, 0.0, 0.0) if behind is None else behind
    fields: dict[str, object] = {"objective": estimate(70.0 + (behind.mean or 0.0)), "tied": not behind.distinct,
                                 "complete": True}
    return Scored(candidate=candidate, guidance=guidance, behind=behind, **{**fields, **changes})  # type: ignore[arg-type]
