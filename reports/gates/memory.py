"""Gates on peak memory and on the size of the weights: the reading of one candidate, its difference from another's or its ratio
to it."""

from __future__ import annotations

from harness.declare import PROMOTED, Gate
from harness.records import Reading
from reports import formatting as words
from reports.gates import promoted_baseline as against
from reports.gates.outcome import Seen, Verdict, decided, nothing, other_of
from reports.read.run import Run
from reports.statistics.intervals import Estimate
from reports.verdict.costs import bytes_of, comparable_bytes, readings_of
from reports.verdict.recommendation import Recommendation


def judge(run: Run, _: Recommendation, gate: Gate, name: str) -> Verdict:
    """Peak memory during one image at batch 1, or the size of the weights."""
    return decided(run, gate, name, peak(run, gate, name, other_of(run, gate)))


def peak(run: Run, gate: Gate, name: str, other: str | None) -> Seen:
    """One number, so an interval of no width; a difference or ratio only of the same reading."""
    mine, theirs = bytes_of(run, name, gate.value), None
    if other == PROMOTED:
        mine, theirs = _as_promoted(run, gate, name)
    elif other is not None:
        mine, theirs = comparable_bytes((run, name), (run, other), gate.value)
    if mine.value is None:
        return Seen(estimate=nothing(mine.why_missing))
    note = f"reading: {words.reading(mine.name)}"
    if other is None or theirs is None:
        return Seen(estimate=_exact(mine.value), note=note)
    if theirs.value is None or theirs.name != mine.name:
        why = theirs.why_missing or f"its reading is {words.reading(theirs.name)}"
        absent = "" if other == PROMOTED else f"{against.named(run, other)} has no reading {mine.name!r}: "
        return Seen(estimate=nothing(absent + why))
    if gate.ratio is None:
        return Seen(estimate=_exact(mine.value - theirs.value), note=f"{note}, minus {against.named(run, other)}")
    if not theirs.value > 0:
        return Seen(estimate=nothing(f"{against.named(run, other)} took {words.size(theirs.value)}, so there is no ratio"))
    return Seen(estimate=_exact(mine.value / theirs.value), note=f"{note}, ratio to {against.named(run, other)}")


def _as_promoted(run: Run, gate: Gate, name: str) -> tuple[Reading, Reading]:
    """The candidate's reading of the kind that was promoted, and that one; the candidate's best where there is none."""
    pairs = [(mine, against.memory(run, (gate.value, name), mine.name)) for mine in readings_of(run, name, gate.value)]
    best = bytes_of(run, name, gate.value)
    return next((pair for pair in pairs if pair[1].value is not None), (best, against.memory(run, (gate.value, name), best.name)))


def _exact(value: float) -> Estimate:
    return Estimate(mean=value, low=value, high=value, prompts=0, pairs=1)
