"""The numeric axes of a suite's candidates, and the one that they sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from harness.declare.candidate import Candidate
from harness.declare.component_runtimes import spelled_runtime
from harness.declare.suite import Suite

AXES: Final = ("alpha", "weight")
CHEAPER: Final[Mapping[str, str]] = {"steps": "lowest"}
"""The side of an axis that costs less, which an objective prefers unless it says otherwise."""


def numeric_axes(suite: Suite) -> tuple[str, ...]:
    """The axes on which every candidate has a number, and not all the same one, in the order of their declaration."""
    values = {axis: [c.axes.get(axis) for c in suite.candidates] for c in suite.candidates for axis in c.axes}
    return tuple(axis for axis, of in values.items()
                 if all(isinstance(v, int | float) and not isinstance(v, bool) for v in of) and len(set(of)) > 1)


def varies_fidelity(suite: Suite) -> bool:
    """Whether candidates differ in quantization, runtime, savers or step cache, and in nothing else: then the question is
    what they lose against the baseline, not which is best."""
    modes = {mode_of(c) for c in suite.candidates}
    return len(modes) > 1 and len({replace(c, quantization="fp32", precision="", runtime="eager", savers=(), step_cache=None).key
                                   for c in suite.candidates}) == 1


def mode_of(candidate: Candidate) -> tuple[object, ...]:
    """How the same weights are run: number format, runtime, savers and step cache."""
    return candidate.number_format, spelled_runtime(candidate.runtime), candidate.savers, candidate.step_cache


def asks_for_the_cheapest(suite: Suite) -> bool:
    """Whether the pick is the cheapest mode that loses nothing: modes vary, and no numeric axis does."""
    return axis_of(suite) is None and varies_fidelity(suite)


def axis_of(suite: Suite) -> str | None:
    """The numeric axis that is swept: alpha, weight, or else the first one; None without any."""
    axes = numeric_axes(suite)
    return next((axis for axis in AXES if axis in axes), next(iter(axes), None))


def axes_of_pick(suite: Suite) -> tuple[str, ...]:
    """The axes along which a preference can decide: the swept one alone where its values tell all candidates apart, else all
    numeric ones, the swept one first."""
    swept = axis_of(suite)
    if swept is None:
        return ()
    if len({c.axes[swept] for c in suite.candidates}) == len(suite.candidates):
        return (swept,)
    return (swept, *(axis for axis in numeric_axes(suite) if axis != swept))


def sides_of_pick(suite: Suite) -> dict[str, str]:
    """What the objective prefers on guidance and on each axis of the pick, in the order in which that decides; axes that are not
    in it are taken in the middle."""
    cheaper = {axis: side for axis, side in CHEAPER.items() if axis in axes_of_pick(suite)}
    return {**suite.objective.prefer, **{axis: side for axis, side in cheaper.items() if axis not in suite.objective.prefer}}
