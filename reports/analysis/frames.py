"""A run's cells and costs as tidy tables: one row per figure, each with its unit, its interval and its n."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pandas as pd

from harness.records import Reading
from reports.read.run import Run, by_cell
from reports.statistics.intervals import cluster_mean
from reports.verdict.costs import Seconds, phases, seconds_apart, seconds_per_image
from reports.verdict.recommendation import Recommendation

CELL_COLUMNS: Final = ("candidate", "guidance", "value", "unit", "better", "mean", "low", "high", "prompts", "images", "why",
                       "pick", "tied")
COST_COLUMNS: Final = ("candidate", "cost", "unit", "value", "low", "high", "n", "why", "pick")
APART: Final = ("step", "first_switch", "switch", "load")


def cells(run: Run, recommendation: Recommendation) -> pd.DataFrame:
    """One row for each candidate, guidance and value: the mean over all images of both splits, its 95 % interval with prompts as
    clusters, and how many prompts and images are behind it. Where mean or interval is absent it is NaN and `why` says why.
    `tied` is None where a cell was not scored."""
    scored = {(cell.candidate, float(cell.guidance)): cell.tied for cell in recommendation.cells}
    picked = (recommendation.pick, recommendation.guidance)
    rows = []
    for (name, guidance), images in by_cell(run.images).items():
        for value in run.numeric_values:
            mean = cluster_mean(images, run.row(value))
            rows.append({"candidate": name, "guidance": guidance, "value": value, "unit": run.row(value).unit,
                         "better": run.row(value).better, "mean": mean.mean, "low": mean.low, "high": mean.high,
                         "prompts": mean.prompts, "images": mean.pairs, "why": mean.why, "pick": (name, guidance) == picked,
                         "tied": scored.get((name, guidance))})
    return _frame(rows, CELL_COLUMNS, ("mean", "low", "high"))


def costs(run: Run, recommendation: Recommendation) -> pd.DataFrame:
    """One row for each candidate and cost. Of times, `value` is the median of `n` timed rounds or occasions, `low` and `high` are
    the fastest and the slowest; memory and energy are single readings. What was not measured is NaN and `why` says why."""
    rows = []
    for candidate in run.suite.candidates:
        for figures in _costs(run, candidate.name):
            rows.append({"candidate": candidate.name, "pick": candidate.name == recommendation.pick, **figures})
    return _frame(rows, COST_COLUMNS, ("value", "low", "high"))


def _costs(run: Run, name: str) -> Iterator[dict[str, Any]]:
    yield _times("seconds_per_image", seconds_per_image(run, name))
    for phase in phases(run):
        yield _times(f"seconds_per_image:{phase}", seconds_per_image(run, name, phase))
    for what in APART:
        yield _times(f"seconds:{what}", seconds_apart(run, name, what))
    memory, power = run.memory.get(name), run.power.get(name)
    for reading in (*(memory.readings if memory else ()), *(power.readings if power else ())):
        yield _reading(reading)


def _times(cost: str, of: Seconds) -> dict[str, Any]:
    return {"cost": cost, "unit": "s", "value": of.median, "low": of.fastest, "high": of.slowest, "n": of.rounds, "why": of.why}


def _reading(of: Reading) -> dict[str, Any]:
    return {"cost": of.name, "unit": of.unit, "value": of.value, "low": of.value, "high": of.value,
            "n": int(of.value is not None), "why": of.why_missing}


def _frame(rows: list[dict[str, Any]], columns: tuple[str, ...], floats: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns)).astype(dict.fromkeys(floats, "float64"))
