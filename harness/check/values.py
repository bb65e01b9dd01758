"""The values that a suite can name, with their rows: values per image of its metrics, values derived from them, and values of a
whole run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from harness.check.phrases import unknown
from harness.declare import DESIRABILITY, Objective, Suite
from harness.declare.nearest import closest
from harness.metrics import METRICS
from harness.records import RUN_VALUES, ValueSpec
from harness.records.images import EMBEDDING, SHOWN
from harness.records.values import values_from

COLUMNS: Final = frozenset({
    "candidate", "prompt", "text", "split", "seed", "guidance", "sample", "path", "same_text", "dominant", "psnr", "clusters",
    EMBEDDING, SHOWN, *RUN_VALUES, *METRICS, *(spec.name for row in METRICS.values() for spec in row.values)})
"""Names of columns in the tables of a run, which an axis must not have."""


def known_values(suite: Suite) -> dict[str, ValueSpec]:
    """{name: row} of every value per image that the suite's metrics give, or that is derived from one of them."""
    given = {spec.name: spec for name in suite.metrics if (row := METRICS.find(name)) for spec in row.rows(name)}
    return given | {name: spec for name, spec in values_from("derived").items() if spec.metric and spec.metric in suite.metrics}


def parts_of_objective(objective: Objective) -> tuple[str, ...]:
    """The values that an objective is made of, each once."""
    return tuple(dict.fromkeys((objective.maximise, *(p.metric for p in objective.penalties),
                                *(d.metric for d in objective.desirabilities), *(c.metric for c in objective.constraints))))


def metrics_of(value: str) -> list[str]:
    """The built-in metrics that a value comes from: those that give it, or that it is derived from."""
    giving = [name for name, row in METRICS.items() if value in (spec.name for spec in row.values)]
    return giving or [spec.metric for name, spec in values_from("derived").items() if name == value and spec.metric]


def misspelt(suite: Suite) -> set[str]:
    """The metrics that misspelt names most probably mean. That one of them is missing is not reported a second time."""
    unknown = [name for name in suite.metrics if isinstance(name, str) and METRICS.find(name) is None]
    return {similar for name in unknown for similar in (*closest(name, METRICS, most=2), *metrics_of(_value_meant(name)))}


def value_for_metric(name: object) -> str:
    """What to give in place of the name of a value, where a metric is expected; empty where nothing like it is known."""
    value = _value_meant(name) if isinstance(name, str) and METRICS.find(name) is None else ""
    if metrics := metrics_of(value):
        giving = " or ".join(map(repr, metrics))
        return (f"unknown metric {name!r}: it is a value; give the metric that it comes from, {giving}" if name == value else
                f"unknown metric {name!r}; did you mean {giving}, which gives the value {value!r}?")
    if value and name == value:
        return f"unknown metric {name!r}: it is a value that needs no metric; remove it"
    return ""


def _value_meant(name: str) -> str:
    """The value that a name is or is most like, unless it is as much like a metric."""
    values = {*(spec.name for row in METRICS.values() for spec in row.values), *RUN_VALUES} - {*METRICS}
    return next((word for word in closest(name, sorted({*values, *METRICS})) if word in values), "")


def unknown_values(kind: str, names: Iterable[str], known: Collection[str], suite: Suite) -> Iterator[str]:
    """One phrase per value that the suite's metrics do not give: the metric that it needs, or the nearest names."""
    for name in names:
        needed = metrics_of(name)
        if name in known or set(needed) & misspelt(suite):
            continue
        if needed:
            yield f"{kind} {name!r} needs the metric {' or '.join(map(repr, needed))}; add it to metrics"
        else:
            yield from unknown(kind, [name], known)


def direction_problem(spec: ValueSpec, word: str, limit: float) -> str:
    """Why "at_least" or "at_most" is the wrong way round for a value. Empty if it is not: paired values are distances from the
    baseline's images, and that an adapter changes them enough may be asked for as well as that it changes them little."""
    wrong = {"higher": "at_most", "lower": "at_least"}.get(spec.better)
    if word != wrong or spec.paired:
        return ""
    better, right = ("more", "at_least") if spec.better == "higher" else ("less", "at_most")
    return f"{word} is {limit:g}, which only bad values would meet, as {better} of {spec.name} is better; give {right}"


def range_problem(spec: ValueSpec, word: str, limit: float) -> str:
    """Why a limit decides nothing: it is outside of the value's range or at the end of it, so that all values keep it, or of a
    share, cost or count none does. Empty if it can decide."""
    end, side = (spec.low, "above") if word == "at_least" else (spec.high, "below")
    if limit == end:
        return f"{word} is {limit:g}, which every value keeps; give a number {side} {limit:g} ({spec.unit})"
    if not spec.bounded_share:
        return _outside(spec, word, limit)
    if 0 <= limit <= 1:
        return ""
    return (f"{word} is {limit:g}; expected a {spec.unit}, from 0 to 1 (5 % is 0.05): any other limit is kept by all values, or "
            "by none")


def _outside(spec: ValueSpec, word: str, limit: float) -> str:
    """What range a limit must be in, where every value keeps it, or no cost or count does."""
    below, above = spec.low is not None and limit < spec.low, spec.high is not None and limit > spec.high
    idle = below if word == "at_least" else above
    if not idle and not (below and spec.kind in ("cost", "count")):
        return ""
    ends = [f"{side} {end:g}" for side, end in (("at least", spec.low), ("at most", spec.high)) if end is not None]
    return f"{word} is {limit:g}; expected {' and '.join(ends)} ({spec.unit}): {'every' if idle else 'no'} value keeps this limit"


def gate_values(suite: Suite) -> Mapping[str, ValueSpec]:
    """{name: row} of every value that a gate can judge."""
    whole = {name: spec for name, spec in RUN_VALUES.items() if not spec.metric or spec.origin == "people"}
    if suite.objective.maximise != DESIRABILITY:
        del whole[DESIRABILITY]
    return known_values(suite) | whole
