"""All problems of a suite's objective and gates that can be found before any work. The types of their fields are checked
before."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from harness.check.phrases import doubles, number, unknown
from harness.check.values import direction_problem, gate_values, known_values, metrics_of, misspelt, range_problem, unknown_values
from harness.declare import BASELINE, DESIRABILITY, PROMOTED, SIDES, Constraint, Desirability, Gate, Objective, Suite
from harness.declare.candidate_names import unknown_candidates
from harness.declare.swept_axis import asks_for_the_cheapest, axes_of_pick
from harness.records import ValueSpec
from harness.records.gate_kinds import LIMITS, gate_kind


def objective_problems(suite: Suite) -> Iterator[str]:
    """One phrase per problem of the objective."""
    objective, rows = suite.objective, known_values(suite)
    known = rows.keys()
    if objective == Objective():
        yield from _default(suite, known)
        return
    yield from unknown_values("value", [objective.maximise], known | {DESIRABILITY}, suite)
    if objective.maximise in rows and rows[objective.maximise].fewer:
        yield (f"maximises {objective.maximise!r}, of which less is better; give maximise=DESIRABILITY with desirabilities="
               f"(Desirability(metric={objective.maximise!r}, worst=..., best=...),), best below worst")
    for penalty in objective.penalties:
        yield from unknown_values("penalty", [penalty.metric], known, suite)
        row = rows.get(penalty.metric)
        if row is not None and row.better == "higher":
            yield (f"penalty on {penalty.metric!r}, of which more is better, and a penalty takes points off for more; give a "
                   "Constraint with at_least, or maximise it")
        high = row.high if row is not None else None
        if high is not None and number(penalty.allowance) and penalty.allowance >= high:
            yield (f"penalty on {penalty.metric!r}: allowance is {penalty.allowance:g}, but no value exceeds {high:g}, so "
                   "nothing would be taken off; give a smaller allowance")
        if not number(penalty.weight) or penalty.weight <= 0 or not number(penalty.allowance):
            yield (f"penalty on {penalty.metric!r}: weight is {penalty.weight!r} and allowance {penalty.allowance!r}; expected "
                   "finite numbers, and a weight above 0 (at 0 nothing is taken off; remove the penalty)")
    yield from _constraints(objective.constraints, rows, suite)
    yield from _preferences(suite)
    if objective.maximise == DESIRABILITY and not objective.desirabilities:
        yield ("maximise is DESIRABILITY, but no desirabilities are given; give for example "
               "desirabilities=(Desirability(metric='clip_score', worst=20, best=30),)")
    if objective.desirabilities and objective.maximise != DESIRABILITY:
        yield f"desirabilities are given, but maximise is {objective.maximise!r}; give maximise=DESIRABILITY, or remove them"
    yield from doubles("desirability of", [d.metric for d in objective.desirabilities])
    for desirability in objective.desirabilities:
        yield from (f"desirability of {desirability.metric!r}: {phrase}" for phrase in _desirability(desirability, rows, suite))


def _preferences(suite: Suite) -> Iterator[str]:
    """Problems of `prefer`; an axis is known if any candidate has it."""
    axes = {axis for c in suite.candidates if isinstance(c.axes, Mapping) for axis in c.axes}
    for axis, side in suite.objective.prefer.items():
        yield from unknown("axis", [axis], {*axes, "guidance"})
        if side not in SIDES:
            yield f"prefers {side!r} on {axis!r}; expected one of {', '.join(SIDES)}"
        if suite.objective.prefer == Objective().prefer:
            continue
        if asks_for_the_cheapest(suite):
            yield (f"prefers {side!r} on {axis!r}, which has no effect: candidates differ in quantization, runtime or savers "
                   "alone, and the cheapest of those without a loss is picked. Remove prefer")
        elif axis in axes and axis not in (decisive := axes_of_pick(suite)):
            along = f"the pick is made along {decisive[0]!r}" if decisive else "no axis has a number for every candidate"
            yield (f"prefers {side!r} on {axis!r}, which has no effect: {along}. Remove it, or sweep {axis!r} in a suite of its "
                   "own")


def _default(suite: Suite, known: Collection[str]) -> Iterator[str]:
    """What the default objective lacks, in one phrase: it was not written by the suite's author."""
    asked = [suite.objective.maximise, *(penalty.metric for penalty in suite.objective.penalties)]
    absent = [value for value in asked if value not in known and not set(metrics_of(value)) & misspelt(suite)]
    if absent:
        needed = dict.fromkeys(metric for value in absent for metric in metrics_of(value))
        yield (f"the default objective needs the metric{'s' if len(needed) > 1 else ''} {' and '.join(map(repr, needed))}, for "
               f"{' and '.join(map(repr, absent))}. Add to metrics, or give an objective of your own, such as "
               "Objective(penalties=()) for the CLIP score alone")


def _constraints(constraints: Collection[Constraint], rows: Mapping[str, ValueSpec], suite: Suite) -> Iterator[str]:
    yield from doubles("constraint on", [(f"{c.metric} {'at_least' if c.at_most is None else 'at_most'}") for c in constraints])
    for constraint in constraints:
        yield from unknown_values("constraint", [constraint.metric], rows.keys(), suite)
        limits = [limit for limit in (constraint.at_most, constraint.at_least) if limit is not None]
        if len(limits) != 1:
            yield f"constraint on {constraint.metric!r}: {len(limits)} limits are given; expected one of at_most, at_least"
        elif not number(limits[0]):
            yield f"constraint on {constraint.metric!r}: the limit is {limits[0]!r}; expected a finite number"
        elif constraint.metric in rows:
            row, word = rows[constraint.metric], "at_least" if constraint.at_most is None else "at_most"
            if problem := range_problem(row, word, limits[0]) or direction_problem(row, word, limits[0]):
                yield f"constraint on {constraint.metric!r}: {problem}"


def _desirability(of: Desirability, rows: Mapping[str, ValueSpec], suite: Suite) -> Iterator[str]:
    yield from unknown_values("value", [of.metric], rows.keys(), suite)
    if number(of.worst) and number(of.best) and of.metric in rows:
        yield from _beyond(of, rows[of.metric])
    if not number(of.worst) or not number(of.best) or of.worst == of.best:
        yield f"worst is {of.worst!r} and best {of.best!r}; expected two different finite numbers"
    for name in ("shape", "weight"):
        value = getattr(of, name)
        if not number(value) or value <= 0:
            yield f"{name} is {value!r}; expected a number above 0"


def _beyond(of: Desirability, row: ValueSpec) -> Iterator[str]:
    """That all values are on one side of worst and best, so that every image is as desirable as every other."""
    low, high = sorted((of.worst, of.best))
    side = "below" if row.high is not None and row.high <= low else "above" if row.low is not None and row.low >= high else ""
    if side and low != high:
        end = row.high if side == "below" else row.low
        yield (f"worst is {of.worst:g} and best {of.best:g}, but every value is at {end:g} or {side}, so that all images are "
               "equally desirable; give ends that values lie between")


def gate_problems(gate: Gate, suite: Suite, names: Collection[str]) -> Iterator[str]:
    """One phrase per problem of a gate; `names` are those of the suite's candidates."""
    values = gate_values(suite)
    yield from unknown_values("value", [gate.value], values, suite)
    yield from _limits(gate, values.get(gate.value))
    for word in ("at_least", "at_most"):
        limit = getattr(gate, word)
        if limit is not None and not number(limit):
            yield f"{word} is {limit!r}; expected a finite number"
    if gate.not_worse_than is not None and gate.value in values and values[gate.value].better == "nearer":
        yield (f"{gate.value} is neither better when higher nor when lower, so not_worse_than has no meaning; use at_least or "
               "at_most")
    if gate.not_worse_than is not None:
        yield from unknown_candidates([gate.not_worse_than], {*names, BASELINE, PROMOTED})
    if gate.not_worse_than == BASELINE and BASELINE in names and suite.baseline != BASELINE:
        yield (f"{BASELINE!r} means the suite's baseline, {suite.baseline!r}, and another candidate has this name; rename that "
               "candidate")
    if gate.not_worse_than == PROMOTED and PROMOTED in names:
        yield f"{PROMOTED!r} is reserved for the last promoted model; rename the candidate of that name"
    yield from unknown_candidates(gate.candidates, names)
    yield from doubles("candidate", gate.candidates)
    other = suite.baseline if gate.not_worse_than == BASELINE else gate.not_worse_than
    if other is not None and other in gate.candidates:
        yield (f"compares {other!r} with itself, which decides nothing; remove it from the gate's candidates, or compare with "
               "another candidate")
    yield from _allowances(gate, values.get(gate.value))


def _limits(gate: Gate, value: ValueSpec | None) -> Iterator[str]:
    """Problems of the limit itself."""
    limits = [limit for limit in (gate.at_least, gate.at_most, gate.not_worse_than) if limit is not None]
    kind = gate_kind(gate.value)
    if not kind.limits:
        if limits:
            yield f"{gate.value} takes no limit: {kind.why_limits}. Remove it"
    elif len(limits) != 1:
        yield f"{len(limits)} limits are given; expected one of at_least, at_most, not_worse_than"
    elif refused := [word for word in LIMITS if getattr(gate, word) is not None and word not in kind.limits]:
        yield f"{gate.value} takes no {refused[0]}: {kind.why_limits}; give {' or '.join(kind.limits)}"
    elif value is not None:
        yield from (problem for word in ("at_least", "at_most") if number(limit := getattr(gate, word)) and (
            problem := range_problem(value, word, limit) or direction_problem(value, word, limit)))


def _allowances(gate: Gate, value: ValueSpec | None) -> Iterator[str]:
    """Problems of the margin and the ratio, which refer to another candidate's value."""
    if not number(gate.margin) or gate.margin < 0:
        yield f"margin is {gate.margin!r}; expected a number of at least 0"
    elif gate.margin and gate.not_worse_than is None:
        yield "margin is given without not_worse_than; add it to the limit instead"
    elif value is not None and value.low is not None and value.high is not None and gate.margin >= value.high - value.low:
        yield (f"margin is {gate.margin:g}, but no two values of {gate.value} are further apart than {value.high - value.low:g}, "
               "so that every candidate would pass; give a smaller margin")
    if gate.ratio is None:
        return
    if not number(gate.ratio) or gate.ratio <= 0:
        yield f"ratio is {gate.ratio!r}; expected a number above 0, like 1.1"
    if gate.not_worse_than is None or "not_worse_than" not in gate_kind(gate.value).limits:
        yield "ratio is given without not_worse_than, so there is no value to compare with; give not_worse_than, or remove ratio"
    if gate.margin:
        yield "both a margin and a ratio are given; give one of them"
