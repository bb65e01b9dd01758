"""Which denoisers and adapters are active in which steps: a denoising run is split into phases of steps with the same ones.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from harness.declare import Adapter, Candidate, Control, Ensemble, Reference, Relay
from harness.declare.models import models_of, weights_by_model
from harness.declare.step_shares import first_step, hand_overs, idle_span
from harness.materialise.library import MaterialiseError
from harness.text import Treatment
from harness.weights import Pipeline
from harness.weights.denoiser_streams import DenoiserStreams

_Acting = TypeVar("_Acting", bound=Adapter | Control | Reference)
_Kind = TypeVar("_Kind")


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One denoiser that predicts in a phase; `weight` is its share of the phase's prediction. `enter` makes it live and returns
    its pipeline. `treatment` says how its positive prompts are embedded; negative prompts get only its words. `text_identity`
    changes exactly when an embedding changes."""

    enter: Callable[[], Pipeline]
    treatment: Treatment
    text_identity: str
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A candidate from step `first` until the next phase: the branches that predict together. Most phases have one."""

    first: int
    branches: tuple[Branch, ...]
    streams: DenoiserStreams = field(default_factory=DenoiserStreams, compare=False)
    """How several branches predict on a GPU."""

    def enter(self) -> Pipeline:
        """Makes every branch live, and returns the pipeline of the first. All of them decode with the same VAE."""
        pipeline, *_ = [branch.enter() for branch in self.branches]
        return pipeline


@dataclass(frozen=True, kw_only=True)
class Leg:
    """A candidate's steps from `first` until the next leg: in all of them the same models predict with the same adapters. Each of
    `singles` is the candidate with one of these models, and its weight; `reading` the one whose text encoders read the
    prompts, None where each reads them with its own; `decoding` the one whose VAE decodes."""

    first: int
    singles: tuple[tuple[Candidate, float], ...]
    reading: Candidate | None
    decoding: Candidate


def legs_of(candidate: Candidate, steps: int, of_steps: int | None = None) -> list[Leg]:
    """The legs of a candidate that runs `steps` steps, the last of `of_steps`. Raises MaterialiseError for an adapter or a model
    that has none of them."""
    model = candidate.model
    edges = _edges(model, of_steps or steps, steps) if isinstance(model, Relay) else []
    legs = []
    every: tuple[Adapter | Control | Reference, ...] = (*candidate.adapters, *candidate.controls, *candidate.references)
    for first, acting in spans_of(every, steps, edges):
        here = replace(candidate, adapters=of_kind(acting, Adapter), controls=of_kind(acting, Control),
                       references=of_kind(acting, Reference))
        singles = [replace(here, model=one) for one in models_of(model)]
        decoding = singles[-1] if isinstance(model, Relay) and model.vae == "last" else singles[0]
        if isinstance(model, Relay):
            taking_part = [(singles[bisect_right(edges, first)], 1.0)]
        elif isinstance(model, Ensemble):
            taking_part = [(replace(singles[0], model=one), weight) for one, weight in weights_by_model(model)]
        else:
            taking_part = [(singles[0], 1.0)]
        legs.append(Leg(first=first, singles=tuple(taking_part), decoding=decoding,
                        reading=singles[0] if isinstance(model, Ensemble) and model.texts == "first" else None))
    return legs


def live_singles(candidate: Candidate, legs: Sequence[Leg]) -> tuple[Candidate, ...]:
    """The candidate with each of its models that its legs need: those that predict, read prompts or decode, each once, in the
    declared order."""
    needed = {repr(single.model) for leg in legs for single in (
        *(one for one, _ in leg.singles), leg.decoding, *([leg.reading] if leg.reading else []))}
    models = {repr(model): model for model in models_of(candidate.model) if repr(model) in needed}
    return tuple(replace(candidate, model=model) for model in models.values())


def _edges(relay: Relay, of_steps: int, steps: int) -> list[int]:
    try:
        return hand_overs(relay.at, of_steps, steps)
    except ValueError as error:
        raise MaterialiseError(str(error)) from error


def spans_of(acting: Sequence[_Acting], steps: int, edges: Sequence[int] = ()) -> list[tuple[int, tuple[_Acting, ...]]]:
    """(first step, the adapters, controls and references that are active from it) for every span of the `steps` steps, in order.
    A span also ends at each of the `edges`.

    One is active in step i if start <= i / steps < end. Raises MaterialiseError for one that is never active.
    """
    for one in acting:
        if idle := idle_span(one, steps):
            raise MaterialiseError(idle)
    within = {index: (first_step(one.start, steps), first_step(one.end, steps)) for index, one in enumerate(acting)}
    cuts = sorted({0, *edges, *(edge for pair in within.values() for edge in pair if edge < steps)})
    return [(cut, tuple(one for index, one in enumerate(acting) if within[index][0] <= cut < within[index][1])) for cut in cuts]


def of_kind(acting: Iterable[object], kind: type[_Kind]) -> tuple[_Kind, ...]:
    """Those of the adapters, controls and references that are of one kind."""
    return tuple(one for one in acting if isinstance(one, kind))
