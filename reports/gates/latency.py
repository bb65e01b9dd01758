"""Gates on seconds per image: the rounds of one candidate, or their difference from another's or ratio to them."""

from __future__ import annotations

from typing import Final

from harness.declare import PROMOTED, Gate
from reports import formatting as words
from reports.gates import promoted_baseline as against
from reports.gates.outcome import Seen, Verdict, decided, nothing, other_of
from reports.read.run import Run
from reports.statistics.intervals import Estimate
from reports.statistics.order_statistics import median_interval
from reports.verdict.candidates import label
from reports.verdict.confirm_looks import gate_level
from reports.verdict.costs import Seconds, incomparable, seconds_per_image
from reports.verdict.recommendation import Recommendation

FEWEST_ROUNDS: Final = 2
"""One round has no range."""
ENOUGH_ROUNDS: Final = 5
"""The range of so many rounds holds the true median in 94 % of cases."""


def judge(run: Run, _: Recommendation, gate: Gate, name: str) -> Verdict:
    """Seconds per image at batch 1."""
    return decided(run, gate, name, seconds(run, gate, name, other_of(run, gate)))


def seconds(run: Run, gate: Gate, name: str, other: str | None) -> Seen:
    """Seconds per image at batch 1: the median and the range of the rounds, or that of the difference or ratio. Candidates are
    timed in turns, so a ratio is taken round by round where both have as many rounds."""
    mine = seconds_per_image(run, name)
    if mine.rounds < FEWEST_ROUNDS:
        return Seen(estimate=nothing(_too_few(mine)))
    if other is None:
        return Seen(estimate=_range(mine), note=f"median of {words.plural(mine.rounds, 'round')}, fastest to slowest{_few(mine)}")
    theirs, why = _other_seconds(run, name, other)
    if theirs.rounds < FEWEST_ROUNDS:
        return Seen(estimate=nothing(why or f"{against.named(run, other)}: {_too_few(theirs)}"))
    if gate.ratio is None:
        return Seen(estimate=_apart(mine, theirs),
                    note=f"median of {words.plural(mine.rounds, 'round')}, fastest to slowest, minus {against.named(run, other)}")
    return _times_as_long(run, (name, other), mine, theirs)


def _too_few(of: Seconds) -> str:
    """Why there is no interval of none or one round."""
    return of.why or (f"{words.plural(of.rounds, 'timed round')}, too few for an interval; set latency_rounds of the suite to at "
                      f"least {FEWEST_ROUNDS}, better to {ENOUGH_ROUNDS} or more")


def _few(of: Seconds) -> str:
    """How surely the range of a few rounds holds the true median, in words; an empty string from five rounds on."""
    share = 100 * (1 - 2.0 ** (1 - of.rounds))
    return "" if of.rounds >= ENOUGH_ROUNDS else f", which holds the true median in {share:.0f} % of cases"


def _times_as_long(run: Run, names: tuple[str, str], mine: Seconds, theirs: Seconds) -> Seen:
    """The ratio of two latencies."""
    other = names[1]
    if not (theirs.fastest or 0) > 0:
        return Seen(estimate=nothing(f"{against.named(run, other)} has a timed round of 0 s, so there is no ratio"))
    mine_rounds, their_rounds = (_rounds(run, who) for who in names)
    if other != PROMOTED and len(mine_rounds) == len(their_rounds):
        interval = median_interval([a / b for a, b in zip(mine_rounds, their_rounds, strict=True)], gate_level(run.suite))
        over = interval.why or words.plural(interval.pairs, "round")
        return Seen(estimate=interval, note=f"median of the ratio to {against.named(run, other)} round by round ({over})")
    return Seen(estimate=_divided(mine, theirs), note=f"ratio of the medians to {against.named(run, other)}, from fastest over "
                                                      "slowest to slowest over fastest round")


def _other_seconds(run: Run, name: str, other: str) -> tuple[Seconds, str]:
    """What the candidate is held against, or none and why."""
    if other == PROMOTED:
        theirs = against.seconds_per_image(run, name)
        return theirs, theirs.why
    theirs = seconds_per_image(run, other)
    none = Seconds(median=None, fastest=None, slowest=None, rounds=0)
    if theirs.median is None:
        return none, f"{label(run, other)}: {theirs.why}"
    if (here := run.latency[name].batch_size) != (there := run.latency[other].batch_size):
        return none, f"not comparable: timed at batch size {here}, and {label(run, other)} at {there}"
    why = incomparable(run, name, other)
    return (none, why) if why else (theirs, "")


def _rounds(run: Run, name: str) -> tuple[float, ...]:
    record = run.latency.get(name)
    return record.seconds.get("total", ()) if record else ()


def _range(of: Seconds) -> Estimate:
    return Estimate(mean=of.median, low=of.fastest, high=of.slowest, prompts=0, pairs=of.rounds)


def _apart(mine: Seconds, theirs: Seconds) -> Estimate:
    """Difference of the medians, as far apart as any two rounds."""
    (a, a_low, a_high), (b, b_low, b_high) = _numbers(mine), _numbers(theirs)
    return Estimate(mean=a - b, low=a_low - b_high, high=a_high - b_low, prompts=0, pairs=mine.rounds)


def _divided(mine: Seconds, theirs: Seconds) -> Estimate:
    """Ratio of the medians, as far apart as any two rounds."""
    (a, a_low, a_high), (b, b_low, b_high) = _numbers(mine), _numbers(theirs)
    return Estimate(mean=a / b, low=a_low / b_high, high=a_high / b_low, prompts=0, pairs=mine.rounds)


def _numbers(of: Seconds) -> tuple[float, float, float]:
    assert of.median is not None
    assert of.fastest is not None
    assert of.slowest is not None
    return of.median, of.fastest, of.slowest
