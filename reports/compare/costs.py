"""What two runs have in common and where they differ, as plain facts, and the ratios of their costs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from harness.records.values import WEIGHTS
from reports.comparable import costs_otherwise, sampled_as
from reports.read.run import Run
from reports.verdict.costs import SIZES, UNEVEN, comparable_bytes, incomparable, pace, seconds_per_image

BETTER: Final = "better"
WORSE: Final = "worse"
TIED: Final = "tied"
CHANGED: Final = "changed"
ABSENT: Final = "not measured"
SAME: Final = "same"
"""The very same images with the same values, or the very same readings: nothing was made or taken again."""
SAME_READINGS: Final = "the very same readings: not taken again"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """B over A in one cost of one candidate; `ratio` is None and `why` says so where the two are not held against each other."""

    candidate: str
    cost: str
    ratio: float | None
    word: str
    why: str = ""


def common(a: Run, b: Run) -> list[str]:
    """The names of the candidates that are in both, in B's order."""
    there = {c.name for c in a.suite.candidates}
    return [c.name for c in b.suite.candidates if c.name in there]


def flat(data: Any, name: str = "") -> dict[str, str]:
    """Nested objects as {dotted name: text}; lists stay whole."""
    if not isinstance(data, Mapping):
        return {name: ", ".join(map(str, data)) if isinstance(data, list | tuple) else str(data)}
    facts: dict[str, str] = {}
    for key, value in data.items():
        facts |= flat(value, f"{name}.{key}" if name else str(key))
    return facts


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    """(name, before, after) of every fact that is not the same in both."""
    names = sorted({*before, *after})
    return tuple((n, before.get(n, "not stated"), after.get(n, "not stated")) for n in names if before.get(n) != after.get(n))


def ratios(a: Run, b: Run) -> tuple[Cost, ...]:
    """Seconds per image, peak bytes and bytes of the weights of every common candidate, B over A, where one machine and one torch
    took them."""
    costs = []
    for name in common(a, b):
        one, two = ((run.environment, sampled_as(run, name)) for run in (a, b))
        differing = costs_otherwise(one, two, [run.candidate(name).runtime for run in (a, b)])
        why = f"not compared: not the same {differing}" if differing else ""
        costs += [_seconds(a, b, (name, name), why), *(_bytes(a, b, (name, name), value, why) for value in SIZES)]
    return tuple(costs)


def of_picks(a: Run, b: Run, before: str, after: str) -> tuple[tuple[Cost, ...], bool]:
    """The costs of B's candidate `after` over those of A's candidate `before`, and whether both were taken in B: that is the
    better comparison where B has timed a candidate of the same weights as `before`, for those of one run are timed in turns."""
    mine, theirs = a.weights.get(before), b.weights.get(before)
    within = mine is not None and theirs is not None and mine.identity == theirs.identity and {before, after} <= b.latency.keys()
    a = b if within else a
    one, two = ((run.environment, run.head.get("sampling", {})) for run in (a, b))
    differing = costs_otherwise(one, two, [a.candidate(before).runtime, b.candidate(after).runtime])
    why = f"not compared: not the same {differing}" if differing else incomparable(b, after, before) if within else ""
    names = (before, after)
    return (_seconds(a, b, names, why), *(_bytes(a, b, names, value, why) for value in SIZES)), within


def _seconds(a: Run, b: Run, names: tuple[str, str], why: str) -> Cost:
    old, name = names
    before, after = seconds_per_image(a, old), seconds_per_image(b, name)
    why = next((f"{side}: {s.why}" for side, s in (("A", before), ("B", after)) if s.median is None), why)
    if not why:
        mine, theirs = a.latency[old], b.latency[name]
        if (mine.batch_size, mine.guidance) != (theirs.batch_size, theirs.guidance):
            why = "not compared: timed at another batch size or guidance"
        elif mine.yardstick and theirs.yardstick:
            ratio = statistics.median(theirs.yardstick) / (statistics.median(mine.yardstick) or 1.0)
            if max(ratio, 1 / ratio if ratio else UNEVEN + 1) > UNEVEN:
                how = f"{ratio:.2f} times as slow as" if ratio > 1 or not ratio else f"{1 / ratio:.2f} times as fast as"
                why = f"not compared: by a fixed small computation the machine of B was {how} that of A"
    if why or not before.median or after.median is None or after.slowest is None or before.slowest is None:
        return Cost(candidate=name, cost="seconds_per_image", ratio=None, word=ABSENT, why=why or "no time was taken")
    if a.latency[old] == b.latency[name]:
        return Cost(candidate=name, cost="seconds_per_image", ratio=None, word=SAME, why=SAME_READINGS)
    return Cost(candidate=name, cost="seconds_per_image", ratio=after.median / before.median,
                word={"faster": BETTER, "slower": WORSE}.get(pace(after, before), TIED))


def _bytes(a: Run, b: Run, names: tuple[str, str], value: str, why: str) -> Cost:
    old, name = names
    before, after = comparable_bytes((a, old), (b, name), value)
    why = next((f"{side}: {r.why_missing}" for side, r in (("A", before), ("B", after)) if r.value is None), why)
    if not why and before.name != after.name:
        why = f"not compared: A has {before.name}, B has {after.name}"
    if why or not before.value or after.value is None:
        return Cost(candidate=name, cost=value, ratio=None, word=ABSENT, why=why or "nothing was read")
    if a.memory.get(old) == b.memory.get(name) and old in a.latency and a.latency.get(old) == b.latency.get(name):
        return Cost(candidate=name, cost=value, ratio=None, word=SAME, why=SAME_READINGS)
    if value == WEIGHTS.name and after.value == before.value:
        return Cost(candidate=name, cost=value, ratio=1.0, word=SAME)
    # A peak is one reading without an interval: a ratio is said, and no word that would need one.
    return Cost(candidate=name, cost=value, ratio=after.value / before.value, word=CHANGED)
