"""Gates on failures: stages of a candidate that failed."""

from __future__ import annotations

from harness.declare import Gate
from reports.gates.outcome import Verdict, counted, not_measured, why_missing
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation


def judge(run: Run, _: Recommendation, gate: Gate, name: str) -> Verdict:
    """Stages that failed."""
    if gate.at_least is not None or gate.not_worse_than is not None:
        return not_measured(run, gate, name, "failures takes at_most and no other limit")
    if name not in run.weights and not run.failure_of(name) and name not in set(run.images["candidate"]):
        return not_measured(run, gate, name, why_missing(run, name, "image") or "it was not run")
    count = sum(f.candidate == name for f in run.failures)
    return counted(run, gate, name, count, run.failure_of(name) or "no failure on record")
