"""The sweep over the strength of a stage: how much of the picture of the stage before is drawn again."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from harness.declare.candidate import Candidate
from harness.declare.models import MODELS, Model
from harness.declare.stages import Stage
from harness.declare.swept_values import swept_numbers


def strength_sweep(first: Model | os.PathLike[str] | Candidate | Iterable[Candidate], stage: Stage, strengths: Iterable[float], *,
                   precision: str = "") -> tuple[Candidate, ...]:
    """One candidate per strength of a stage after the first, named "strength=0.5". Put 0 among the strengths: the first stage
    alone is the control. `precision` is that of a Candidate.

    Instead of a model it takes candidates, such as those of alpha_sweep: each gets the stage at every strength, as "alpha=0.5
    strength=0.3". Raises ValueError for a stage that has a strength already.
    """
    if stage.strength is not None:
        raise ValueError(f"strength_sweep: strength is {stage.strength:g} in the stage, and swept; remove it from the stage")
    listed = tuple(map(float, swept_numbers(strengths, "strength_sweep: strengths", "(0, 0.3, 0.5, 0.7)")))
    candidates = []
    for candidate in _candidates(first, precision):
        if "strength" in candidate.axes:
            raise ValueError(f"strength_sweep: candidate {candidate.name!r} has the axis 'strength' already; sweep it once")
        for strength in listed:
            stages = (*candidate.stages, *([replace(stage, strength=strength)] if strength else []))
            name = " ".join(filter(None, [candidate.name, f"strength={strength:g}"]))
            candidates.append(replace(candidate, name=name, stages=stages, axes={**candidate.axes, "strength": strength}))
    return tuple(candidates)


def _candidates(given: Model | os.PathLike[str] | Candidate | Iterable[Candidate], precision: str) -> tuple[Candidate, ...]:
    """The candidates that get a stage; a model is one without a name."""
    if isinstance(given, MODELS):
        return (Candidate(name="", model=given, precision=precision),)
    if isinstance(given, os.PathLike):
        return (Candidate(name="", model=os.fspath(given), precision=precision),)
    if precision:
        raise ValueError("strength_sweep: precision is for a model; candidates have their own")
    return (given,) if isinstance(given, Candidate) else tuple(given)
