"""Whether a suite that was read from a run folder or a record is one that a run can have written: anybody can edit files, and
whoever reads a run relies on it. What a suite file may say is for the checks of the harness."""

from __future__ import annotations

from collections import Counter

from harness.declare import SIDES, Objective, Suite
from harness.declare.suite import MOST_IMAGES
from harness.records.sound_values import first_misfit, shown


def trouble(suite: Suite) -> str:
    """The first thing about a suite that no run can have written, in words; an empty string where there is none."""
    return first_misfit(suite, "suite") or _odd_names(suite) or _odd_objective(suite.objective) or _too_many(suite)


def _odd_names(suite: Suite) -> str:
    """What is there twice, not there at all, or named and not declared."""
    grid, names = suite.grid, [c.name for c in suite.candidates]
    for what, told in (("candidate", names), ("prompt", [p.id for p in grid.prompts]), ("seed", grid.seeds),
                       ("guidance scale", grid.guidance_scales)):
        if not told:
            return f"the suite has no {what}"
        name, count = Counter(told).most_common(1)[0]
        if count > 1:
            return f"the suite has the {what} {name!r} {count} times"
    for candidate in suite.candidates:
        scales = None if candidate.sampling is None else candidate.sampling.scales
        if scales is not None and len(set(scales)) < max(1, len(scales)):
            return f"the candidate {candidate.name!r} has no guidance scale, or one of them twice"
    if suite.baseline not in names:
        return f"the suite's baseline {suite.baseline!r} is not one of its candidates"
    if odd_split := next((p for p in grid.prompts if p.split not in ("select", "confirm")), None):
        return f"the prompt {odd_split.id!r} is of the split {odd_split.split!r}; expected 'select' or 'confirm'"
    return ""


def _odd_objective(objective: Objective) -> str:
    """What an objective says that no reader can follow."""
    for axis, side in objective.prefer.items():
        if side not in SIDES:
            return f"the objective prefers {shown(side)} of {shown(axis)}; expected one of {', '.join(SIDES)}"
    for of in objective.desirabilities:
        if of.worst == of.best or of.shape <= 0 or of.weight <= 0:
            return (f"the desirability of {shown(of.metric)} has worst {of.worst:g}, best {of.best:g}, shape {of.shape:g} and "
                    f"weight {of.weight:g}; expected two different values, and a shape and a weight above 0")
    return ""


def _too_many(suite: Suite) -> str:
    return f"the suite declares {suite.images} images; expected at most {MOST_IMAGES}" if suite.images > MOST_IMAGES else ""
