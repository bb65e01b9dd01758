"""Candidates that make the same pictures although their declarations differ: what has no weight in them is not run, and a model
beside itself is that model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from harness.declare import Candidate, Ensemble, Model, Relay, Suite
from harness.declare.mixed import Mixed, Mode, Quantization, beside_denoiser, modes_in, of_denoiser, spelled
from harness.declare.models import DENOISER
from harness.declare.stages import Stage
from harness.declare.to_plain import plain

_Part = TypeVar("_Part", Candidate, Stage)


def same_pictures(suite: Suite) -> Iterator[str]:
    """A remark for each candidate that makes the pictures of an earlier one, with the reason. Candidates of equal declarations
    are refused elsewhere."""
    earlier: dict[str, Candidate] = {}
    for candidate in suite.candidates:
        without, reasons = as_run_alone(candidate)
        other = earlier.setdefault(replace(without, name="", axes={}).key, candidate)
        reasons = [*reasons, *(as_run_alone(other)[1] if other is not candidate else ())]
        if other.key != candidate.key and reasons:
            yield (f"candidates {other.name!r} and {candidate.name!r} make the same pictures: "
                   f"{'; '.join(dict.fromkeys(reasons))}. One of them is enough")


def as_run_alone(candidate: Candidate) -> tuple[Candidate, list[str]]:
    """The candidate without what has no effect, and why each part of it has none."""
    model, reasons = _alone(candidate.model)
    quantization, why = _in_one_spelling(candidate)
    reasons += why
    stages = []
    parts: tuple[Candidate | Stage, ...] = (candidate, *candidate.stages)
    for part in parts:
        reasons += [f"a control of weight 0 ({one.path!r}) is not run" for one in part.controls if one.weight == 0]
        reasons += [f"a reference of weight 0 ({one.path!r}) is not run" for one in part.references if one.weight == 0]
    for stage in candidate.stages:
        of_stage, why = _alone(stage.model)
        stages.append(replace(_acting(stage), model=of_stage))
        reasons += why
    return replace(_acting(candidate), model=model, quantization=quantization, stages=tuple(stages)), reasons


def _in_one_spelling(candidate: Candidate) -> tuple[Quantization, list[str]]:
    """How the components are quantized, where several declarations say it: one word for what is in one mode, and the denoiser's
    alone where nothing beside it is quantized."""
    declared = candidate.quantization
    mode, beside = _one_mode(of_denoiser(declared)), {part: _one_mode(of) for part, of in beside_denoiser(declared).items()}
    settled: Quantization = {DENOISER: mode, **beside} if beside else mode
    if plain(settled) == plain(declared):
        return declared, []
    return settled, [f"quantization {spelled(declared)!r} is {spelled(settled)!r}"]


def _one_mode(mode: Mode) -> Mode:
    """A mixture whose layers are all in one mode as this mode."""
    return modes_in(mode)[0] if isinstance(mode, Mixed) and len(modes_in(mode)) == 1 else mode


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
