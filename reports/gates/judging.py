"""Gates: may a candidate be promoted? Pure rules from measured intervals to passed, failed, inconclusive or not measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from harness.declare import BASELINE, PROMOTED, Gate
from harness.records.gate_kinds import IMAGES, kind_of
from reports.gates import coverage, failure_rate, failures, identities, images, latency, memory
from reports.gates.outcome import Verdict, not_measured, with_itself
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation

JUDGES: Final[dict[str, Callable[[Run, Recommendation, Gate, str], Verdict]]] = {
    "coverage": coverage.judge, "identities": identities.judge, "failures": failures.judge, "failure_rate": failure_rate.judge,
    "latency": latency.judge, "memory": memory.judge, "ratings": images.judge, IMAGES: images.judge}
"""By kind of gate (the rows of GATE_KINDS): how it judges one candidate."""


def judge(run: Run, recommendation: Recommendation) -> list[Verdict]:
    """Every gate of the suite on every candidate it names, or on the pick when it names none."""
    verdicts = []
    for gate in run.suite.gates:
        names = gate.candidates or ((recommendation.pick,) if recommendation.pick else ())
        if not names:
            verdicts.append(not_measured(run, gate, "", "there is no recommended pick to judge"))
        verdicts.extend(_judge_one(run, recommendation, gate, name) for name in names)
    return verdicts


def _judge_one(run: Run, rec: Recommendation, gate: Gate, name: str) -> Verdict:
    if why := _meaningless(run, gate, name) or with_itself(run, gate, name):
        return not_measured(run, gate, name, why)
    return JUDGES[kind_of(gate.value)](run, rec, gate, name)


def _meaningless(run: Run, gate: Gate, name: str) -> str:
    """Why a gate can say nothing at all, or an empty string."""
    if name not in {c.name for c in run.suite.candidates}:
        return f"the suite has no candidate {name!r}"
    if gate.not_worse_than not in {None, BASELINE, PROMOTED, *(c.name for c in run.suite.candidates)}:
        return f"the suite has no candidate {gate.not_worse_than!r}"
    if any(map(math.isnan, (gate.at_least or 0.0, gate.at_most or 0.0, gate.margin, gate.ratio or 0.0))):
        return "a limit, the margin or the ratio of this gate is not a number (NaN)"
    if gate.ratio is not None and (gate.not_worse_than is None or not gate.ratio > 0 or gate.margin):
        return "a ratio needs not_worse_than, must be above 0, and excludes a margin"
    if gate.not_worse_than is not None and run.row(gate.value).better == "nearer":
        return f"{gate.value} has no better direction, so nothing can be worse in it"
    return ""
