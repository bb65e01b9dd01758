"""Problems of the schedule and the knobs of an effective grid: what its sampler cannot follow, and what has no effect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

from harness.check.phrases import unknown
from harness.declare import Grid, Sampling
from harness.declare.grid import MOST_STEPS
from harness.declare.sampler_names import sampler_named
from harness.samplers import SAMPLERS, SCHEDULES, guided_steps

_SHARES = ("guidance_rescale", "guidance_start", "guidance_end", "eta")


def sampler_name_problems(grid: Grid) -> Iterator[str]:
    """What is wrong with the name of the sampler, which may be a tool's: then the declaration has ours already."""
    if grid.sampler in SAMPLERS:
        return
    try:
        sampler, schedule = sampler_named(grid.sampler)
    except ValueError as error:
        yield str(error)
        return
    given = grid.sampling.schedule if grid.sampling else None
    yield (f"sampler {grid.sampler!r} is {sampler!r} with the schedule {schedule!r}, but schedule is {given!r}; give one of them")


def knob_problems(grid: Grid) -> Iterator[str]:
    """One phrase per problem of an effective grid whose fields have the right types and whose sampler is known."""
    knobs, row = grid.sampling or Sampling(), SAMPLERS[grid.sampler]
    given = knobs.given
    if row.flow:
        yield from (f"{name} is not supported for models of flow matching, which {grid.sampler!r} samples; remove it"
                    for name in given if name not in ("shift", "schedule") or (name == "schedule" and knobs.schedule))
        if knobs.shift is not None and not 0 < knobs.shift < inf:
            yield f"shift is {knobs.shift:g}; expected a number above 0, such as 3"
        return
    yield from _schedule(grid, knobs.schedule or "")
    if row.most_steps < grid.steps <= MOST_STEPS and (not knobs.schedule or row.levels == "timesteps"):
        another = ", a schedule such as 'sgm_uniform'," if row.levels != "timesteps" and row.schedules else ""
        yield (f"sampler {grid.sampler!r} has at most {row.most_steps} different steps of its own, and steps is {grid.steps}; "
               f"give fewer{another} or another sampler, such as 'euler'")
    outside = [name for name in _SHARES if name in given and not 0 <= given[name] <= 1]
    yield from (f"{name} is {given[name]:g}; expected a number from 0 to 1" for name in outside)
    if knobs.eta is not None and row.eta is None:
        knowing = [name for name, other in SAMPLERS.items() if other.eta is not None]
        yield f"eta has no effect on sampler {grid.sampler!r}; remove it, or use {_one_of(knowing)}"
    if knobs.shift is not None:
        yield f"shift is for models of flow matching, and sampler {grid.sampler!r} is for others; remove it"
    if knobs.clip_skip is not None and knobs.clip_skip < 1:
        yield f"clip_skip is {knobs.clip_skip}; expected 1 for the last layer, 2 for the one before, and so on"
    if grid.steps >= 1 and not outside and not guided_steps(knobs, grid.steps):
        start, end = knobs.guidance_start or 0.0, 1.0 if knobs.guidance_end is None else knobs.guidance_end
        yield (f"guidance_start {start:g} and guidance_end {end:g} leave none of the {grid.steps} steps with guidance; widen "
               "them, or set guidance to 1")


def _schedule(grid: Grid, schedule: str) -> Iterator[str]:
    if not schedule:
        return
    if schedule not in SCHEDULES:
        yield from unknown("schedule", [schedule], SCHEDULES)
        return
    fitting = SAMPLERS[grid.sampler].schedules
    if schedule not in fitting:
        expected = _one_of(fitting) if fitting else "none"
        yield (f"sampler {grid.sampler!r} does not take the schedule {schedule!r}; expected {expected}, or schedule='' for "
               "its own timesteps")
    elif grid.steps > SCHEDULES[schedule].most_steps:
        yield (f"schedule {schedule!r} has at most {SCHEDULES[schedule].most_steps} different steps, and steps is {grid.steps}; "
               "give fewer, or another schedule, such as 'karras'")


def _one_of(names: Sequence[str]) -> str:
    return " or ".join(map(repr, names)) if len(names) < 3 else f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"
