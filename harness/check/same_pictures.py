"""Candidates that make the same pictures although their declarations differ: what has no weight in them is not run, and a model
beside itself is that model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from harness.declare import Candidate, DeepCache, Ensemble, Model, Relay, StepCache, Suite, plain
from harness.declare.candidate import NOT_QUANTIZED
from harness.declare.component_runtimes import in_one_spelling as one_runtime
from harness.declare.component_runtimes import spelled_runtime
from harness.declare.effective_grid import run_grids
from harness.declare.mixed import in_one_spelling, spelled
from harness.declare.models import AestheticGradient, Emphasis
from harness.declare.stages import Stage

_Part = TypeVar("_Part", Candidate, Stage)


def same_pictures(suite: Suite) -> Iterator[str]:
    """A remark for each candidate that makes the pictures of an earlier one, with the reason. Candidates of equal declarations
    are refused elsewhere."""
    earlier: dict[str, Candidate] = {}
    for candidate in suite.candidates:
        without, reasons = as_run_alone(candidate, suite)
        other = earlier.setdefault(replace(without, name="", axes={}).key, candidate)
        reasons = [*reasons, *(as_run_alone(other, suite)[1] if other is not candidate else ())]
        if other.key != candidate.key and reasons:
            yield (f"candidates {other.name!r} and {candidate.name!r} make the same pictures: "
                   f"{'; '.join(dict.fromkeys(reasons))}. One of them is enough")


def as_run_alone(candidate: Candidate, suite: Suite) -> tuple[Candidate, list[str]]:
    """The candidate without what has no effect, and why each part of it has none."""
    model, reasons = _alone(candidate.model)
    quantization = in_one_spelling(candidate.quantization, NOT_QUANTIZED)
    if quantization is not candidate.quantization:
        reasons.append(f"quantization {spelled(candidate.quantization)!r} is {spelled(quantization)!r}")
    runtime = one_runtime(candidate.runtime)
    if runtime != candidate.runtime:
        reasons.append(f"runtime {plain(candidate.runtime)!r} is {spelled_runtime(runtime)!r}")
    stages = []
    parts: tuple[Candidate | Stage, ...] = (candidate, *candidate.stages)
    for part in parts:
        reasons += [f"a control of weight 0 ({one.path!r}) is not run" for one in part.controls if one.weight == 0]
        reasons += [f"a reference of weight 0 ({one.path!r}) is not run" for one in part.references if one.weight == 0]
    for stage in candidate.stages:
        of_stage, why = _alone(stage.model)
        stages.append(replace(_acting(stage), model=of_stage))
        reasons += why
    cache, emphasis, aesthetic, why = _without_effect(candidate, suite)
    return replace(_acting(candidate), model=model, quantization=quantization, runtime=runtime, stages=tuple(stages),
                   step_cache=cache, emphasis=emphasis, aesthetic=aesthetic), [*reasons, *why]


def _without_effect(candidate: Candidate, suite: Suite) -> tuple[
        StepCache | None, Emphasis | None, AestheticGradient | None, list[str]]:
    """Step cache, emphasis and aesthetic gradient of a candidate as far as they can change a picture, and why parts of them
    cannot."""
    cache, emphasis, aesthetic, reasons = candidate.step_cache, candidate.emphasis, candidate.aesthetic, list[str]()
    if isinstance(cache, DeepCache):
        most = max(grid.steps for grid in run_grids(suite, candidate))
        if cache.interval == 1 or most == 1:
            reasons.append(f"DeepCache(interval={cache.interval}) runs every step whole")
            cache = None
        elif cache.interval > most:
            reasons.append(f"of {most} steps, DeepCache(interval={cache.interval}) runs the first one whole, as interval={most}")
            cache = replace(cache, interval=most)
    if emphasis is not None and all(weight == 1 for weight in emphasis.weights.values()):
        reasons.append("an emphasis whose weights are all 1 changes nothing")
        emphasis = None
    if aesthetic is not None and (aesthetic.weight == 0 or aesthetic.steps == 0):
        reasons.append(f"an aesthetic gradient of {'weight' if aesthetic.weight == 0 else 'steps'} 0 is not added")
        aesthetic = None
    return cache, emphasis, aesthetic, reasons


def _acting(part: _Part) -> _Part:
    return replace(part, controls=tuple(one for one in part.controls if one.weight != 0),
                   references=tuple(one for one in part.references if one.weight != 0))


def _alone(model: Model) -> tuple[Model, list[str]]:
    """The one model that a relay or an ensemble comes to, with the reason; others as they are."""
    if not isinstance(model, Relay | Ensemble) or not model.models:
        return model, []
    first = model.models[0]
    if all(other == first for other in model.models[1:]):
        return first, [f"{'a relay' if isinstance(model, Relay) else 'an ensemble'} of one model is that model"]
    # The first model decodes: with weight 0 it is still part of the picture.
    if isinstance(model, Ensemble) and model.weights[:1] == (1,) and not any(model.weights[1:]):
        return first, ["the models of weight 0 of an ensemble are not run"]
    return model, []
