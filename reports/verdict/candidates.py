"""What a suite's candidates are to each other: the axis they sweep, the parents and controls among them, their labels."""

from __future__ import annotations

from typing import Final

from harness.declare import Candidate, Merge, Suite
from reports import formatting as words
from reports.read.run import Run

AXES: Final = ("alpha", "weight")


def axis_of(suite: Suite) -> str | None:
    """The numeric axis that is swept: alpha, weight, or the first other axis with two or more numeric values; else None."""
    names = dict.fromkeys([*AXES, *(axis for c in suite.candidates for axis in c.axes)])
    for name in names:
        values = [c.axes.get(name) for c in suite.candidates]
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values) and len(set(values)) > 1:
            return name
    return None


def varies_fidelity(suite: Suite) -> bool:
    """Whether candidates differ in quantization or runtime: then the question is what the baseline loses, not what is best."""
    return len({(c.quantization, c.runtime) for c in suite.candidates}) > 1


def controls(suite: Suite) -> dict[str, str]:
    """Candidates the pick must beat, and their role: the two ends of the axis (parents, when they are), without an axis the
    models that are merged, and the baseline."""
    axis = axis_of(suite)
    found: dict[str, str] = {}
    if axis is not None:
        ordered = sorted(suite.candidates, key=lambda c: float(c.axes[axis]))
        found = {c.name: _role(c, axis, end) for c, end in ((ordered[0], "lowest"), (ordered[-1], "highest"))}
    else:
        found = _merged_from(suite)
    if suite.baseline not in found:
        found[suite.baseline] = "baseline"
    return found


def _merged_from(suite: Suite) -> dict[str, str]:
    """The candidates that others are merged from, where no axis says it: plain models that are a or b of a declared merge, and
    merges at alpha 0 or 1 of the models that another candidate merges otherwise."""
    merges = [c.model for c in suite.candidates if isinstance(c.model, Merge)]
    mixed = [m for m in merges if m.alpha not in (0.0, 1.0)]
    found = {}
    for c in suite.candidates:
        plain = c.quantization == "fp32" and not c.adapters
        for m in mixed if plain else ():
            if c.model in (m.a, m.b):
                found[c.name] = "parent A" if c.model == m.a else "parent B"
            elif isinstance(c.model, Merge) and c.model.alpha in (0.0, 1.0) and (c.model.a, c.model.b) == (m.a, m.b):
                found[c.name] = "parent A" if c.model.alpha == 0.0 else "parent B"
    return found


def _role(candidate: Candidate, axis: str, end: str) -> str:
    value = float(candidate.axes[axis])
    if isinstance(candidate.model, Merge) and axis == "alpha" and value in (0.0, 1.0):
        return "parent A" if value == 0.0 else "parent B"
    if axis == "weight" and value == 0.0:
        return "without the adapter"
    return f"{end} {axis}"


def label(run: Run, name: str) -> str:
    """A candidate in words: "alpha 0.35" on a numeric axis, its visible name otherwise; axis values must tell it apart."""
    axis = axis_of(run.suite)
    if axis is None:
        return words.visible(name)
    value = run.candidate(name).axes[axis]
    same = [c for c in run.suite.candidates if c.axes.get(axis) == value]
    return f"{axis} {value:g}" if len(same) == 1 and isinstance(value, int | float) else words.visible(name)


def label_with_role(run: Run, name: str) -> str:
    """As `label`, with the role of a control: "alpha 0 (parent A)"."""
    role = controls(run.suite).get(name)
    return f"{label(run, name)} ({role})" if role else label(run, name)


def parents(suite: Suite) -> tuple[str, ...]:
    """Controls that are no mixture: alpha 0 and 1, or the model without the adapter."""
    return tuple(n for n, role in controls(suite).items() if role.startswith(("parent", "without")))


def present(run: Run) -> list[str]:
    """Names of candidates that have images, by axis value when there is one, else as declared."""
    with_images = set(run.images["candidate"])
    shown = [c for c in run.suite.candidates if c.name in with_images]
    axis = axis_of(run.suite)
    if axis is not None:
        shown.sort(key=lambda c: float(c.axes[axis]))
    return [c.name for c in shown]
