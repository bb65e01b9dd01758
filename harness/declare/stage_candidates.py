"""The stages of a candidate as candidates of their own: what each is made of, and how it is sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import floor
from os.path import normpath

from harness.declare.candidate import TAKEN, Candidate
from harness.declare.grid import Grid, Prompt
from harness.declare.guiding import encoded_by
from harness.declare.models import Adapter, Model, Relay
from harness.declare.sampling import Sampling
from harness.declare.stages import PROMPT, Stage, stage_name
from harness.declare.step_shares import hand_overs

_NEARLY = 1e-9
"""Tolerance for rounding: 0.58 times 50 steps must count as 29."""


def as_candidates(candidate: Candidate) -> tuple[Candidate, ...]:
    """One candidate per stage, in order, each with the name of the whole and without stages of its own. A stage that names no
    model has that of the stage before, and in `sampling` what it does not say itself. Number format, runtime and aesthetic
    gradient are those of the whole candidate, and so is its emphasis where a stage reads the prompts; adapters act in their own
    stage alone."""
    if not candidate.stages:
        return (candidate,)
    stages = [replace(candidate, stages=(), post=())]
    for stage in candidate.stages:
        before = stages[-1]
        stages.append(replace(before, model=stage.model or before.model, adapters=stage.adapters, controls=stage.controls,
                              references=stage.references, inpaint=None, sampling=_sampled(before.sampling, stage.sampling),
                              emphasis=candidate.emphasis if PROMPT in stage.prompt else None))
    return tuple(stages)


def as_run(candidate: Candidate, steps: int) -> tuple[Candidate, ...]:
    """As `as_candidates`, each with the number of steps that it runs, of which the start and end of its adapters are shares, and
    here also the hand-overs of a relay. `steps` is the number for a candidate that does not say. Raises ValueError for a relay of
    which a model runs no step."""
    first, *later = as_candidates(candidate)
    counted = [first]
    for number, (stage, own) in enumerate(zip(candidate.stages, later, strict=True), 1):
        given = {} if own.sampling is None else own.sampling.given
        of_steps = given.get("steps", steps)
        run = steps_run(stage.strength or 0.0, of_steps)
        try:
            model = of_run(own.model, of_steps, run)
        except ValueError as error:
            raise ValueError(f"{stage_name(number)}: {error}") from error
        counted.append(replace(own, model=model, sampling=Sampling(**{**given, "steps": run})))
    return tuple(counted)


def of_run(model: Model, steps: int, run: int) -> Model:
    """The model, and a relay with hand-overs that are shares of the last `run` steps, and not of all as they are declared."""
    if not isinstance(model, Relay) or run == steps:
        return model
    return replace(model, at=tuple(edge / run for edge in hand_overs(model.at, steps, run)))


def _sampled(before: Sampling | None, own: Sampling | None) -> Sampling | None:
    if before is None or own is None:
        return own or before
    return Sampling(**{**before.given, **own.given})


def clashes(candidate: Candidate) -> tuple[str, ...]:
    """The fields that are given both in a candidate and in its first stage, where all stages are given."""
    first = candidate.stages[0]
    return tuple(name for name in TAKEN if getattr(first, name) and getattr(candidate, name))


def steps_run(strength: float, steps: int) -> int:
    """How many of its n steps a stage that begins from a picture runs: the last floor(strength * n)."""
    return floor(strength * steps + _NEARLY)


def own_guidance(candidate: Candidate, stage: int) -> float | None:
    """The guidance scale that a stage has in place of that of the image; None where it has that of the image. `stage` counts from
    0 for the first."""
    given = [one.sampling.scales for one in candidate.stages[:stage] if one.sampling is not None and one.sampling.scales]
    return float(given[-1][0]) if given else None


def with_stage_texts(grid: Grid, stage: Stage) -> Grid:
    """The grid with the prompts as a stage reads them."""
    return replace(grid, negative="", prompts=tuple(_rewritten(prompt, stage) for prompt in grid.prompts))


def _rewritten(prompt: Prompt, stage: Stage) -> Prompt:
    text = stage.prompt.replace(PROMPT, prompt.text)
    # Not as the grid's own negative text, which another grid would take away.
    return replace(prompt, text=text, negative=str(prompt.negative if stage.negative is None else stage.negative))


def with_named(candidate: Candidate, adapters: Sequence[Adapter]) -> Candidate:
    """The candidate with adapters that prompts name. They act wherever the prompts are read: in the first stage, and in those
    whose prompt has "{prompt}". A later stage that gives the same file itself keeps its own weight."""
    stages = tuple(replace(stage, adapters=(*stage.adapters, *_others(stage.adapters, adapters)))
                   if PROMPT in stage.prompt else stage for stage in candidate.stages)
    return replace(candidate, adapters=(*candidate.adapters, *adapters), stages=stages) if adapters else candidate


def _others(own: Sequence[Adapter], adapters: Sequence[Adapter]) -> list[Adapter]:
    paths = {normpath(adapter.path) for adapter in own}
    return [adapter for adapter in adapters if normpath(adapter.path) not in paths]


def with_encoder(candidate: Candidate, clip: str) -> Candidate:
    """The candidate with this CLIP model as the image encoder of all references that name none, in every stage."""
    own = encoded_by(candidate.references, clip)
    stages = tuple(replace(stage, references=encoded_by(stage.references, clip)) if isinstance(stage, Stage) else stage
                   for stage in candidate.stages)
    same = own == candidate.references and stages == candidate.stages
    return candidate if same else replace(candidate, references=own, stages=stages)
