"""The sweep over the weight of a control: between what the picture says and what the words say."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from harness.declare.candidate import Candidate
from harness.declare.guiding import Control
from harness.declare.models import MODELS, Model
from harness.declare.swept_values import swept_numbers

AXIS = "control"


def control_sweep(model: Model | os.PathLike[str] | Candidate | Iterable[Candidate], control: Control,
                  weights: Iterable[float], *, precision: str = "") -> tuple[Candidate, ...]:
    """One candidate per weight of a control in the first stage, named "control=0.5". Put 0 among the weights: without the control
    is the baseline. `precision` is that of a Candidate. The weight of `control` itself is replaced.

    Instead of a model it takes candidates, such as those of alpha_sweep: each gets the control at every weight, as "alpha=0.5
    control=1".
    """
    listed = tuple(map(float, swept_numbers(weights, "control_sweep: weights", "(0, 0.5, 1, 1.5)")))
    candidates = []
    for candidate in _candidates(model, precision):
        if AXIS in candidate.axes:
            raise ValueError(f"control_sweep: candidate {candidate.name!r} has the axis {AXIS!r} already; sweep it once")
        for weight in listed:
            name = " ".join(filter(None, [candidate.name, f"{AXIS}={weight:g}"]))
            controls = (*candidate.controls, *([replace(control, weight=weight)] if weight else []))
            candidates.append(replace(candidate, name=name, controls=controls, axes={**candidate.axes, AXIS: weight}))
    return tuple(candidates)


def _candidates(given: Model | os.PathLike[str] | Candidate | Iterable[Candidate], precision: str) -> tuple[Candidate, ...]:
    """The candidates that get a control; a model is one without a name."""
    if isinstance(given, os.PathLike):
        given = os.fspath(given)
    if isinstance(given, MODELS):
        return (Candidate(name="", model=given, precision=precision),)
    if precision:
        raise ValueError("control_sweep: precision is for a model; candidates have their own")
    return (given,) if isinstance(given, Candidate) else tuple(given)
