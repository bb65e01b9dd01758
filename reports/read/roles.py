"""What a suite's candidates are to each other as they are declared: the axis that they sweep, and the controls among them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from harness.declare import Candidate, Merge, Model, Suite
from harness.declare.merge_ends import PARENT_AT
from harness.declare.swept_axis import axis_of, numeric_axes

__all__ = ["axis_of", "axis_values", "controls", "numeric_axes"]

BESIDE_THE_MODEL: Final[Mapping[str, Any]] = {"stages": (), "controls": (), "references": (), "inpaint": None, "post": (),
                                               "savers": (), "step_cache": None}
"""What a candidate has besides its model, as it is without. With any of it, it is not a parent of a merge."""


def axis_values(suite: Suite) -> dict[str, float]:
    """{candidate: its value on the swept axis} of those that this value tells apart from all others; empty without an axis."""
    axis = axis_of(suite)
    values = {} if axis is None else {c.name: float(c.axes[axis]) for c in suite.candidates}
    counted = Counter(values.values())
    return {name: value for name, value in values.items() if counted[value] == 1 and not math.isnan(value)}


def controls(suite: Suite) -> dict[str, str]:
    """Candidates the pick must beat, and their role: the two ends of the axis (parents, when they are) that one candidate has
    alone, without an axis the models that are merged, and the baseline."""
    axis = axis_of(suite)
    found: dict[str, str] = {}
    if axis is not None:
        places = [float(c.axes[axis]) for c in suite.candidates]
        found = {c.name: _role(suite, c, axis, word) for end, word in ((min(places), "lowest"), (max(places), "highest"))
                 if (c := _alone([c for c in suite.candidates if float(c.axes[axis]) == end])) is not None}
    else:
        found = _merged_from(suite)
    if suite.baseline not in found:
        found[suite.baseline] = "baseline"
    return found


def _alone(candidates: list[Candidate]) -> Candidate | None:
    """The candidate at an end of the axis: the only one there, or the only one whose model is used as it is, without adapters,
    quantization and the like. Where several share the end, none of them stands for it."""
    plain = [c for c in candidates if c.number_format in ("", "fp32")
             and c == replace(c, adapters=(), runtime="eager", emphasis=None, aesthetic=None, sampling=None, **BESIDE_THE_MODEL)]
    return candidates[0] if len(candidates) == 1 else plain[0] if len(plain) == 1 else None


def _merged_from(suite: Suite) -> dict[str, str]:
    """The candidates that others are merged from, where no axis says it: plain models that are a or b of a declared merge, and
    merges at alpha 0 or 1 of the models that another candidate merges otherwise."""
    merges = [c.model for c in suite.candidates if isinstance(c.model, Merge)]
    mixed = [m for m in merges if m.alpha not in (0.0, 1.0)]
    found = {}
    for c in suite.candidates:
        plain = c.quantization == "fp32" and not c.adapters and c == replace(c, **BESIDE_THE_MODEL)
        for m in mixed if plain else ():
            if c.model in (m.a, m.b):
                found[c.name] = "parent A" if c.model == m.a else "parent B"
            elif (parent := _at_end(c.model)) and isinstance(c.model, Merge) and (c.model.a, c.model.b) == (m.a, m.b):
                found[c.name] = f"parent {parent}"
    return found


def _at_end(model: Model) -> str:
    """The letter of the model that a merge is at its alpha of 0 or 1; empty elsewhere."""
    if not isinstance(model, Merge) or not isinstance(model.alpha, float):
        return ""
    return PARENT_AT.get(model.alpha, {}).get(model.method, "")


def _role(suite: Suite, candidate: Candidate, axis: str, end: str) -> str:
    value = float(candidate.axes[axis])
    method = candidate.model.method if isinstance(candidate.model, Merge) and axis == "alpha" else ""
    if parent := PARENT_AT.get(value, {}).get(method):
        return f"parent {parent}"
    if axis == "weight" and value == 0.0:
        return "without the adapter"
    # In a grid of several adapters each is an axis of its own.
    if end == "lowest" and not candidate.adapters and (
            most := max(len(c.adapters) for c in suite.candidates if c.model == candidate.model)):
        return "without the adapter" if most == 1 else "without the adapters"
    return f"{end} {axis}"
