"""Gates: may a candidate be promoted? Pure rules from measured intervals to passed, failed, inconclusive or not measured.
Called by the plugin, page.py and summary.py; a new kind of gate is a case here and rows in its table test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import pandas as pd

from harness.declare import BASELINE, Checkpoint, Gate
from reports import words
from reports.candidates import label
from reports.costs import incomparable, peak_memory, seconds_per_image
from reports.decision import Recommendation
from reports.load import Run
from reports.statistics import Estimate, cluster_mean, paired_difference

PASSED: Final = "passed"
FAILED: Final = "failed"
INCONCLUSIVE: Final = "inconclusive"
NOT_MEASURED: Final = "not_measured"
UNACCOUNTED: Final = ("missing_in_a", "missing_in_b", "shape_mismatched", "non_finite", "unmatched", "refused")

NAMED_KEYS: Final = 4


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One gate on one candidate. `observed`, `low` and `high` are in the value's unit (a difference for not_worse_than);
    `limit` is what they were held against, as written in the suite."""

    gate: str
    candidate: str
    status: str
    observed: float | None
    low: float | None
    high: float | None
    limit: str
    reason: str


def judge(run: Run, recommendation: Recommendation) -> list[Verdict]:
    """Every gate of the suite on every candidate it names, or on the pick when it names none."""
    found = []
    for gate in run.suite.gates:
        names = gate.candidates or ((recommendation.pick,) if recommendation.pick else ())
        if not names:
            found.append(_verdict(gate, "", NOT_MEASURED, _nothing("there is no recommended pick to judge")))
        found.extend(_judge_one(run, recommendation, gate, name) for name in names)
    return found


def decide(low: float | None, high: float | None, *, at_least: float | None = None, at_most: float | None = None) -> str:
    """passed when the whole interval is on the right side of the limit, failed when wholly on the wrong, else inconclusive.

    The limit itself is on the right side. Without an interval nothing is decided: not_measured; nor with a NaN.
    """
    if low is None or high is None or any(map(math.isnan, (low, high, at_least or 0.0, at_most or 0.0))):
        return NOT_MEASURED
    if at_least is not None:
        return PASSED if low >= at_least else FAILED if high < at_least else INCONCLUSIVE
    if at_most is not None:
        return PASSED if high <= at_most else FAILED if low > at_most else INCONCLUSIVE
    return NOT_MEASURED


def _judge_one(run: Run, rec: Recommendation, gate: Gate, name: str) -> Verdict:
    if name not in {c.name for c in run.suite.candidates}:
        return _verdict(gate, name, NOT_MEASURED, _nothing(f"the suite has no candidate {name!r}"))
    if any(map(math.isnan, (gate.at_least or 0.0, gate.at_most or 0.0, gate.margin))):
        return _verdict(gate, name, NOT_MEASURED, _nothing("the limit or the margin of this gate is not a number (NaN)"))
    if gate.value == "coverage":
        return _coverage(run, gate, name)
    if gate.value == "failures":
        if gate.at_least is not None or gate.not_worse_than is not None:
            return _verdict(gate, name, NOT_MEASURED, _nothing("failures takes at_most and no other limit"))
        count = sum(f.candidate == name for f in run.failures)
        return _counted(gate, name, count, run.failure_of(name) or "no failure on record")
    other = run.suite.baseline if gate.not_worse_than == BASELINE else gate.not_worse_than
    observed, note = _observe(run, rec, gate, (name, other))
    if observed.low is None:
        status, note = NOT_MEASURED, run.failure_of(name) or observed.why or note
    elif other is None:
        status = decide(observed.low, observed.high, at_least=gate.at_least, at_most=gate.at_most)
    elif run.better(gate.value) == "nearer":
        status, note = NOT_MEASURED, f"{gate.value} has no better direction to be worse in"
    else:
        lower = gate.value in ("seconds_per_image", "peak_bytes") or run.better(gate.value) == "lower"
        status = (decide(observed.low, observed.high, at_most=gate.margin) if lower else
                  decide(observed.low, observed.high, at_least=-gate.margin))
        note = f"{note}, minus {label(run, other)}"
    return _verdict(gate, name, status, observed, note)


def _observe(run: Run, rec: Recommendation, gate: Gate, names: tuple[str, str | None]) -> tuple[Estimate, str]:
    """The estimate a gate is held against, and what it was taken from."""
    name, other = names
    if gate.value == "seconds_per_image":
        return _seconds(run, name, other)
    if gate.value == "peak_bytes":
        return _bytes(run, name, other)
    rows, note = _rows(run, rec, chosen=not gate.candidates)
    mine = rows[rows["candidate"] == name]
    if other is None:
        return cluster_mean(mine, gate.value), note
    return paired_difference(mine, rows[rows["candidate"] == other], gate.value), note


def _rows(run: Run, rec: Recommendation, *, chosen: bool) -> tuple[pd.DataFrame, str]:
    """The images a gate reads, at the recommended guidance. The pick was chosen for doing well on the select prompts, so
    it is judged on the confirm prompts (if there are two); a candidate named in the gate is judged on all prompts."""
    rows = run.images if rec.guidance is None else run.images[run.images["guidance"] == rec.guidance]
    at = "" if rec.guidance is None else f" at CFG {rec.guidance:g}"
    held_out = rows[rows["split"] == "confirm"]
    if chosen and held_out["prompt"].nunique() >= 2:
        return held_out, f"confirm prompts{at}"
    return rows, f"all prompts{at}"


def _seconds(run: Run, name: str, other: str | None) -> tuple[Estimate, str]:
    mine = seconds_per_image(run, name)
    if mine.median is None or mine.fastest is None or mine.slowest is None:
        return _nothing(mine.why), ""
    note = f"median of {words.plural(mine.rounds, 'round')}, fastest to slowest"
    if other is None:
        return Estimate(mean=mine.median, low=mine.fastest, high=mine.slowest, prompts=0, pairs=mine.rounds), note
    theirs = seconds_per_image(run, other)
    if theirs.median is None or theirs.fastest is None or theirs.slowest is None:
        return _nothing(f"{label(run, other)}: {theirs.why}"), ""
    if why := incomparable(run, name, other):
        return _nothing(why), ""
    return Estimate(mean=mine.median - theirs.median, low=mine.fastest - theirs.slowest,
                    high=mine.slowest - theirs.fastest, prompts=0, pairs=mine.rounds), note


def _bytes(run: Run, name: str, other: str | None) -> tuple[Estimate, str]:
    mine = peak_memory(run, name)
    if mine.value is None:
        return _nothing(mine.why_missing), ""
    note = f"reading: {words.reading(mine.name)}"
    if other is None:
        return Estimate(mean=mine.value, low=mine.value, high=mine.value, prompts=0, pairs=1), note
    theirs = peak_memory(run, other)
    if theirs.value is None or theirs.name != mine.name:
        return _nothing(f"{label(run, other)} has no reading {mine.name!r}: {theirs.why_missing}"), ""
    gap = mine.value - theirs.value
    return Estimate(mean=gap, low=gap, high=gap, prompts=0, pairs=1), note


def _coverage(run: Run, gate: Gate, name: str) -> Verdict:
    records = [c for c in run.coverage if c.candidate == name]
    candidate = run.candidate(name)
    if not records:
        plain = isinstance(candidate.model, str | Checkpoint) and not candidate.adapters and candidate.quantization == "fp32"
        if plain and name in run.weights and not run.failure_of(name):
            return _counted(gate, name, 0, "nothing is merged, adapted or quantized")
        why = run.failure_of(name) or run.why_missing(name, "coverage") or "no coverage on record"
        return _verdict(gate, name, NOT_MEASURED, _nothing(why))
    keys = {s: [k for c in records for k in c.keys.get(s, ())] for s in UNACCOUNTED}
    said = ", ".join(f"{len(lost)} {status.replace('_', ' ')}: {words.listed(lost, NAMED_KEYS)}" for status, lost in keys.items()
                     if lost)
    count = sum(map(len, keys.values()))
    # A lost key stays lost whatever the missing rows hold; only "none lost" needs them all.
    if not count and {c.of for c in records} not in ({0}, {len(records)}):
        return _verdict(gate, name, NOT_MEASURED, _nothing("coverage rows are missing"))
    return _counted(gate, name, count, said or "every key is accounted for")


def _counted(gate: Gate, name: str, count: int, reason: str) -> Verdict:
    """An exact count against at_most (0 if the gate says nothing else)."""
    allowed = gate.at_most if gate.at_most is not None else 0.0
    observed = Estimate(mean=count, low=count, high=count, prompts=0, pairs=count)
    return _verdict(gate, name, decide(count, count, at_most=allowed), observed, reason)


def _verdict(gate: Gate, name: str, status: str, observed: Estimate, reason: str = "") -> Verdict:
    number = gate.at_least if gate.at_least is not None else gate.at_most
    if gate.value in ("coverage", "failures"):
        limit = f"at most {gate.at_most or 0:g}"
    elif gate.not_worse_than is not None:
        limit = f"not worse than {gate.not_worse_than} by more than {words.number(gate.margin, gate.value)}"
    else:
        limit = f"{'at least' if gate.at_least is not None else 'at most'} {words.number(number, gate.value)}"
    return Verdict(gate=gate.name, candidate=name, status=status, observed=observed.mean, low=observed.low,
                   high=observed.high, limit=words.visible(limit), reason=words.visible(reason or observed.why))


def _nothing(why: str) -> Estimate:
    return Estimate(mean=None, low=None, high=None, prompts=0, pairs=0, why=why)
