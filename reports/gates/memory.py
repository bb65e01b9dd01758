"""Gates on peak memory: the reading of one candidate, or its difference from another's or ratio to it."""

from __future__ import annotations

from harness.declare import PROMOTED, Gate
from reports import formatting as words
from reports.gates import promoted_baseline as against
from reports.gates.outcome import Seen, Verdict, decided, nothing, other_of
from reports.read.run import Run
from reports.statistics.intervals import Estimate
from reports.verdict.costs import peak_memory
from reports.verdict.recommendation import Recommendation


def judge(run: Run, _: Recommendation, gate: Gate, name: str) -> Verdict:
    """Peak memory during one image at batch 1."""
    return decided(run, gate, name, peak(run, gate, name, other_of(run, gate)))


def peak(run: Run, gate: Gate, name: str, other: str | None) -> Seen:
    """Peak memory: one number, so an interval of no width; a difference or ratio only of the same reading."""
    mine = peak_memory(run, name)
    if mine.value is None:
        return Seen(estimate=nothing(mine.why_missing))
    note = f"reading: {words.reading(mine.name)}"
    if other is None:
        return Seen(estimate=_exact(mine.value), note=note)
    theirs = against.peak_memory(run, mine.name) if other == PROMOTED else peak_memory(run, other)
    if theirs.value is None or theirs.name != mine.name:
        why = theirs.why_missing or f"its reading is {words.reading(theirs.name)}"
        absent = "" if other == PROMOTED else f"{against.named(run, other)} has no reading {mine.name!r}: "
        return Seen(estimate=nothing(absent + why))
    if gate.ratio is None:
        return Seen(estimate=_exact(mine.value - theirs.value), note=f"{note}, minus {against.named(run, other)}")
    if not theirs.value > 0:
        return Seen(estimate=nothing(f"{against.named(run, other)} took {words.size(theirs.value)}, so there is no ratio"))
    return Seen(estimate=_exact(mine.value / theirs.value), note=f"{note}, ratio to {against.named(run, other)}")


def _exact(value: float) -> Estimate:
    return Estimate(mean=value, low=value, high=value, prompts=0, pairs=1)
