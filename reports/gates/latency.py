"""Gates on seconds per image: the rounds of one candidate, or their difference from another's or ratio to them."""

from __future__ import annotations

from harness.declare import PROMOTED, Gate
from reports import formatting as words
from reports.gates import promoted_baseline as against
from reports.gates.outcome import Seen, Verdict, decided, nothing, other_of
from reports.read.run import Run
from reports.statistics.intervals import LEVEL, Estimate
from reports.statistics.order_statistics import median_interval, rounds_for_median
from reports.verdict.candidates import label
from reports.verdict.costs import Seconds, incomparable, seconds_per_image
from reports.verdict.recommendation import Recommendation


def judge(run: Run, _: Recommendation, gate: Gate, name: str) -> Verdict:
    """Seconds per image at batch 1."""
    return decided(run, gate, name, seconds(run, gate, name, other_of(run, gate)))


def seconds(run: Run, gate: Gate, name: str, other: str | None) -> Seen:
    """Seconds per image at batch 1: the median and the range of the rounds, or that of the difference or ratio. Candidates are
    timed in turns, so a ratio is taken round by round where both have as many rounds."""
    mine = seconds_per_image(run, name)
    if mine.rounds < 2:
        return Seen(estimate=nothing(mine.why or _too_few(mine.rounds)))
    if other is None:
        return Seen(estimate=_range(mine), note=f"median of {words.plural(mine.rounds, 'round')}, fastest to slowest",
                    too_few=_too_few(mine.rounds))
    theirs, why = _other_seconds(run, name, other)
    if theirs.rounds < 2:
        why = why or f"{against.named(run, other)}: {theirs.why or _too_few(theirs.rounds, other)}"
        return Seen(estimate=nothing(why))
    if gate.ratio is not None:
        return _times_as_long(run, (name, other), mine, theirs)
    return Seen(estimate=_apart(mine, theirs), too_few=_fewest(mine, theirs, other),
                note=f"median of {words.plural(mine.rounds, 'round')}, fastest to slowest, minus {against.named(run, other)}")


def _too_few(rounds: int, other: str = "") -> str:
    """Why so many rounds decide nothing, and what to do; an empty string where their range covers the true median with 95 %. Also
    after a race, whose looks are at images: candidates are timed once."""
    if rounds >= (needed := rounds_for_median()):
        return ""
    share = f", whose range covers the true median in {100 * (1 - 2.0 ** (1 - rounds)):.4g} % of cases" if rounds > 1 else ""
    way = f"set latency_rounds of the suite to at least {needed}{' and promote again' if other == PROMOTED else ''}"
    return f"{words.plural(rounds, 'timed round')}{share}, too few for a {100 * LEVEL:.3g} % interval: {way}"


def _fewest(mine: Seconds, theirs: Seconds, other: str) -> str:
    """As `_too_few`, of the candidate that has fewer rounds."""
    return _too_few(theirs.rounds, other) if theirs.rounds < mine.rounds else _too_few(mine.rounds)


def _times_as_long(run: Run, names: tuple[str, str], mine: Seconds, theirs: Seconds) -> Seen:
    """The ratio of two latencies."""
    other = names[1]
    if not (theirs.fastest or 0) > 0:
        return Seen(estimate=nothing(f"{against.named(run, other)} has a timed round of 0 s, so there is no ratio"))
    too_few = _fewest(mine, theirs, other)
    mine_rounds, their_rounds = (_rounds(run, who) for who in names)
    if other != PROMOTED and len(mine_rounds) == len(their_rounds):
        interval = median_interval([a / b for a, b in zip(mine_rounds, their_rounds, strict=True)])
        return Seen(estimate=interval, too_few=too_few, note=f"median of the ratio to {against.named(run, other)} round by round "
                                                             f"({words.plural(interval.pairs, 'round')})")
    return Seen(estimate=_divided(mine, theirs), too_few=too_few,
                note=f"ratio of the medians to {against.named(run, other)}, from fastest over slowest to slowest over fastest "
                     "round")


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
