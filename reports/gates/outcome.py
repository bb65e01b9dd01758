"""The outcome of a gate: the statuses, the Verdict, how an interval is compared with a limit, and the limit in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from harness.declare import BASELINE, Fused, Gate, Merge, Model
from harness.records import ValueSpec
from harness.records.gate_kinds import gate_kind
from reports import formatting as words
from reports.read.run import Run
from reports.statistics.intervals import Estimate
from reports.statistics.settling import prompts_to_settle

PASSED: Final = "passed"
FAILED: Final = "failed"
INCONCLUSIVE: Final = "inconclusive"
NOT_MEASURED: Final = "not_measured"
NAMED_KEYS: Final = 4
"""Keys or identities that a reason names before it counts the rest."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One gate on one candidate. `gate` is its name, `value` what it judges, `other` what it compares with (None for a limit).

    `observed`, `low` and `high` are in the value's unit: a difference from the other, or with `ratio` how many times the other's
    value. They pass from `at_least` on, or up to `at_most`; the other of these is None. `limit` says the same in words.
    """

    gate: str
    candidate: str
    value: str
    other: str | None
    ratio: bool
    at_least: float | None
    at_most: float | None
    status: str
    observed: float | None
    low: float | None
    high: float | None
    limit: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a gate looks at: an estimate and what it was taken from. Where `times` is given, `estimate` is a ratio for show, and
    `times` (mine minus ratio times the other's) is what decides, against 0. `too_few` says why an interval is there and is not
    of the level that decides."""

    estimate: Estimate
    note: str = ""
    times: Estimate | None = None
    too_few: str = ""


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


def verdict(run: Run, gate: Gate, name: str, status: str, observed: Estimate, reason: str = "") -> Verdict:
    """The verdict with its limit in words."""
    at_least, at_most = limits_of(gate, run.row(gate.value))
    ratio = gate.ratio is not None and gate.not_worse_than is not None and not gate_kind(gate.value).exact
    return Verdict(gate=run.suite.gate_name(gate), candidate=name, value=gate.value, other=gate.not_worse_than, ratio=ratio,
                   at_least=at_least, at_most=at_most, status=status, observed=observed.mean, low=observed.low,
                   high=observed.high, limit=words.visible(_limit(gate, run.row(gate.value))),
                   reason=words.visible(reason or observed.why))


def decided(run: Run, gate: Gate, name: str, seen: Seen) -> Verdict:
    """The verdict on what a gate looks at; without an interval it is not measured, and the reason says why."""
    value, decisive = run.row(gate.value), seen.times or seen.estimate
    if decisive.low is None:
        why = run.failure_of(name) or seen.estimate.why or decisive.why or run.why_missing(name, gate.value) or seen.note
        return verdict(run, gate, name, NOT_MEASURED, seen.estimate, why)
    if seen.too_few:
        return verdict(run, gate, name, INCONCLUSIVE, seen.estimate, f"{seen.note}; {seen.too_few}")
    status = _status(gate, seen, value)
    by_images = gate_kind(gate.value).noise == "images"
    open_by = settled_by(gate, value, seen.estimate, seen.times) if status == INCONCLUSIVE and by_images else ""
    reason = f"{seen.note}{_without_ratio(value, gate, seen)}{open_by}"
    return verdict(run, gate, name, status, seen.estimate, reason)


def _without_ratio(value: ValueSpec, gate: Gate, seen: Seen) -> str:
    """What decided where a ratio itself has no interval, in words; else an empty string."""
    if seen.times is None or seen.estimate.low is not None:
        return ""
    of = seen.times
    return (f"; {seen.estimate.why}: decided by its own value minus {gate.ratio:g} times the other's, "
            f"{words.signed(of.mean, value)} {words.interval(of.low, of.high, value)}")


def settled_by(gate: Gate, value: ValueSpec, of: Estimate, times: Estimate | None = None) -> str:
    """How many prompts would decide a gate on images, and how, in words; empty where prompts do not decide it. `times` as in
    Seen."""
    at_least, at_most = limits_of(gate, value)
    limit = next((end for end in (at_least, at_most) if end is not None), 0.0)
    decisive, limit = (of, limit) if times is None else (times, 0.0)
    needed = prompts_to_settle(decisive, limit, value if gate.not_worse_than is None else None)
    if needed is None or decisive.mean is None:
        return ""
    passes = decisive.mean >= limit if at_least is not None else decisive.mean <= limit
    if not needed.sayable:
        return f"; how many prompts would decide it {words.settled(needed)}"
    return f"; to {'pass' if passes else 'fail'} it needs {words.settled(needed)}, if the mean stays"


def _status(gate: Gate, seen: Seen, value: ValueSpec) -> str:
    at_least, at_most = limits_of(gate, value)
    if seen.times is None:
        return decide(seen.estimate.low, seen.estimate.high, at_least=at_least, at_most=at_most)
    less = at_most is not None
    return decide(seen.times.low, seen.times.high, at_least=None if less else 0.0, at_most=0.0 if less else None)


def limits_of(gate: Gate, value: ValueSpec) -> tuple[float | None, float | None]:
    """What the observed interval is held against, as (at least, at most); one of the two is None. An exact count without a limit
    must be 0."""
    if gate_kind(gate.value).exact:
        return None, gate.at_most or 0.0
    if gate.not_worse_than is None:
        return (gate.at_least, None) if gate.at_least is not None else (None, gate.at_most)
    if gate.ratio is not None:
        return (None, gate.ratio) if value.fewer else (gate.ratio, None)
    return (None, gate.margin) if value.fewer else (-gate.margin, None)


def not_measured(run: Run, gate: Gate, name: str, why: str) -> Verdict:
    """The verdict of a gate that nothing could be held against."""
    return verdict(run, gate, name, NOT_MEASURED, nothing(why))


def counted(run: Run, gate: Gate, name: str, count: int, reason: str) -> Verdict:
    """An exact count against at_most (0 if the gate says nothing else)."""
    allowed = gate.at_most if gate.at_most is not None else 0.0
    observed = Estimate(mean=count, low=count, high=count, prompts=0, pairs=count)
    return verdict(run, gate, name, decide(count, count, at_most=allowed), observed, reason)


def nothing(why: str) -> Estimate:
    """No estimate, and why."""
    return Estimate(mean=None, low=None, high=None, prompts=0, pairs=0, why=why)


def _limit(gate: Gate, value: ValueSpec) -> str:
    if gate_kind(gate.value).exact:
        return f"at most {gate.at_most or 0:g}"
    if gate.not_worse_than is not None and gate.ratio is not None:
        return f"{'at most' if value.fewer else 'at least'} {gate.ratio:g} × {gate.not_worse_than}'s"
    if gate.not_worse_than is not None:
        return f"not worse than {gate.not_worse_than} by more than {words.number(gate.margin, value)}"
    number = gate.at_least if gate.at_least is not None else gate.at_most
    return f"{'at least' if gate.at_least is not None else 'at most'} {words.number(number, value)}"


def other_of(run: Run, gate: Gate) -> str | None:
    """The candidate (or PROMOTED) that a gate compares with; None where it has a limit of its own."""
    return run.suite.baseline if gate.not_worse_than == BASELINE else gate.not_worse_than


def with_itself(run: Run, gate: Gate, name: str) -> str:
    """Why a gate decides nothing of a candidate that it compares with itself, or an empty string. The values of images that are
    compared one by one with the baseline's (PSNR) compare the baseline with itself too."""
    paired = run.row(gate.value).paired and name == run.suite.baseline
    if not paired and other_of(run, gate) != name:
        return ""
    return f"the candidate is {'the baseline' if name == run.suite.baseline else name} itself, so nothing was compared"


def why_missing(run: Run, name: str, value: str) -> str:
    """Why a candidate has no such value: its failure first; empty where nothing is known."""
    return run.failure_of(name) or run.why_missing(name, value)


def is_merged(model: Model) -> bool:
    """Whether a model is a merge, or has one inside."""
    return isinstance(model, Merge) or (isinstance(model, Fused) and is_merged(model.model))
