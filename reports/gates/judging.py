"""Gates: may a candidate be promoted? Pure rules from measured intervals to passed, failed, inconclusive or not measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import pandas as pd

from harness.declare import BASELINE, PROMOTED, Gate
from harness.records import ValueSpec
from reports import formatting as words
from reports.gates import costs, counts
from reports.gates import promoted_baseline as against
from reports.gates.ratios import ratio_of_means, times
from reports.gates.verdict import NOT_MEASURED, Seen, Verdict, decide, not_measured, nothing, verdict
from reports.read.run import Run
from reports.statistics.intervals import cluster_mean, paired_difference
from reports.verdict.candidates import label
from reports.verdict.elimination import gate_level
from reports.verdict.recommendation import Recommendation

_COUNTS: Final[dict[str, Callable[[Run, Gate, str], Verdict]]] = {
    "coverage": counts.coverage, "identities": counts.identities, "failures": counts.failures,
    "failure_rate": counts.failure_rate}
_COSTS: Final[dict[str, Callable[[Run, Gate, str, str | None], Seen]]] = {
    "seconds_per_image": costs.seconds, "peak_bytes": costs.peak}


FEWEST_HELD_OUT: Final = 2
"""Confirm prompts that a suite declares before a pick is judged on them alone: one gives no interval."""


def judge(run: Run, recommendation: Recommendation) -> list[Verdict]:
    """Every gate of the suite on every candidate it names, or on the pick when it names none."""
    found = []
    for gate in run.suite.gates:
        names = gate.candidates or ((recommendation.pick,) if recommendation.pick else ())
        if not names:
            found.append(not_measured(run, gate, "", "there is no recommended pick to judge"))
        found.extend(_judge_one(run, recommendation, gate, name) for name in names)
    return found


def _judge_one(run: Run, rec: Recommendation, gate: Gate, name: str) -> Verdict:
    if why := _meaningless(run, gate, name):
        return not_measured(run, gate, name, why)
    if gate.value in _COUNTS:
        return _COUNTS[gate.value](run, gate, name)
    other = run.suite.baseline if gate.not_worse_than == BASELINE else gate.not_worse_than
    fewer = run.row(gate.value).fewer
    seen = _COSTS[gate.value](run, gate, name, other) if gate.value in _COSTS else _images(run, rec, gate, (name, other))
    decisive = seen.times or seen.estimate
    if decisive.low is None:
        why = run.failure_of(name) or seen.estimate.why or decisive.why or run.why_missing(name, gate.value) or seen.note
        return verdict(run, gate, name, NOT_MEASURED, seen.estimate, why)
    reason = f"{seen.note}{_without_ratio(run.row(gate.value), gate, seen)}"
    return verdict(run, gate, name, _status(gate, seen, fewer), seen.estimate, reason)


def _without_ratio(value: ValueSpec, gate: Gate, seen: Seen) -> str:
    """What decided where a ratio itself has no interval, in words; else an empty string."""
    if seen.times is None or seen.estimate.low is not None:
        return ""
    of = seen.times
    return (f"; {seen.estimate.why}: decided by its own value minus {gate.ratio:g} times the other's, "
            f"{words.signed(of.mean, value)} {words.interval(of.low, of.high, value)}")


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


def _status(gate: Gate, seen: Seen, fewer: bool) -> str:
    of = seen.times or seen.estimate
    if gate.not_worse_than is None:
        return decide(of.low, of.high, at_least=gate.at_least, at_most=gate.at_most)
    worst = 0.0 if seen.times else gate.ratio if gate.ratio is not None else gate.margin if fewer else -gate.margin
    return decide(of.low, of.high, at_most=worst) if fewer else decide(of.low, of.high, at_least=worst)


def _images(run: Run, rec: Recommendation, gate: Gate, names: tuple[str, str | None]) -> Seen:
    """The estimate of a per-image value, and what it was taken from."""
    name, other = names
    rows, note = _rows(run, rec, chosen=not gate.candidates)
    mine = rows[rows["candidate"] == name]
    held_out = sum(p.split == "confirm" for p in run.suite.grid.prompts)
    there = mine.loc[mine["split"] == "confirm", "prompt"].nunique()
    if not gate.candidates and held_out >= FEWEST_HELD_OUT > there:
        return Seen(estimate=nothing("the confirm prompts were not sampled, and the prompts that the pick was chosen on "
                                     "cannot judge it"))
    level = gate_level(run.suite)
    if other is None:
        return Seen(estimate=cluster_mean(mine, run.row(gate.value), level), note=note)
    if other == PROMOTED:
        theirs, said = against.comparable(run, mine, gate.value)
        if theirs is None:
            return Seen(estimate=nothing(said))
        named = f"{against.called(run)} ({said})"
    else:
        theirs, named = rows[rows["candidate"] == other], label(run, other)
    if gate.ratio is None:
        return Seen(estimate=paired_difference(mine, theirs, run.row(gate.value), level=level), note=f"{note}, minus {named}")
    return Seen(estimate=ratio_of_means(mine, theirs, gate.value, level),
                times=times(mine, theirs, run.row(gate.value), gate.ratio, level), note=f"{note}, ratio to {named}")


def _rows(run: Run, rec: Recommendation, *, chosen: bool) -> tuple[pd.DataFrame, str]:
    """The images a gate reads, at the recommended guidance. The pick was chosen for doing well on the select prompts, so
    it is judged on the confirm prompts (if two are declared); a candidate named in the gate is judged on all prompts."""
    rows = run.images if rec.guidance is None else run.images[run.images["guidance"] == rec.guidance]
    at = "" if rec.guidance is None else f" at CFG {rec.guidance:g}"
    held_out = rows[rows["split"] == "confirm"]
    if chosen and sum(p.split == "confirm" for p in run.suite.grid.prompts) >= FEWEST_HELD_OUT:
        return held_out, f"confirm prompts{at}"
    return rows, f"all prompts{at}"
