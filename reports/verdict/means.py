"""The mean of every value of one candidate over its images, with intervals."""

from __future__ import annotations

from reports.read.run import Run
from reports.statistics.intervals import Estimate, cluster_mean


def means(run: Run, candidate: str, guidance: float | None) -> dict[str, Estimate]:
    """{value: mean over the candidate's images at `guidance`, or at all scales for None, with prompts as clusters}."""
    rows = run.images[run.images["candidate"] == candidate]
    rows = rows if guidance is None else rows[rows["guidance"] == guidance]
    return {value: cluster_mean(rows, run.row(value)) for value in run.numeric_values}
