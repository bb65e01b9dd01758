"""The mean of every value of one candidate over its images, with intervals."""

from __future__ import annotations

from reports.read.beside import rows_at
from reports.read.run import Run
from reports.statistics.intervals import Estimate, cluster_mean


def means(run: Run, candidate: str, guidance: float | None) -> dict[str, Estimate]:
    """{value: mean over the candidate's images at `guidance` or its counterpart, or at all scales for None, with prompts as
    clusters}."""
    rows = rows_at(run, guidance, run.images[run.images["candidate"] == candidate])
    return {value: cluster_mean(rows, run.row(value)) for value in run.numeric_values}
