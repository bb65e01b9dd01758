"""Sweeps over the weight of what guides a candidate: between what a picture says and what the words say."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from harness.declare.candidate import Candidate
from harness.declare.guiding import Control, Reference
from harness.declare.models import MODELS, Model
from harness.declare.swept_values import swept_numbers

Given = Model | os.PathLike[str] | Candidate | Iterable[Candidate]


def control_sweep(model: Model | os.PathLike[str] | Candidate | Iterable[Candidate], control: Control,
                  weights: Iterable[float], *, precision: str = "") -> tuple[Candidate, ...]:
    """One candidate per weight of a control in the first stage, named "control=0.5". Put 0 among the weights: without the control
    is the baseline. `precision` is that of a Candidate. The weight of `control` itself is replaced.

    Instead of a model it takes candidates, such as those of alpha_sweep: each gets the control at every weight, as "alpha=0.5
    control=1".
    """
    return _swept("control", _candidates(model, precision, "control_sweep"), control, weights)


def reference_sweep(model: Model | os.PathLike[str] | Candidate | Iterable[Candidate], reference: Reference,
                    weights: Iterable[float], *, precision: str = "") -> tuple[Candidate, ...]:
    """One candidate per weight of a reference in the first stage, named "reference=0.5". Put 0 among the weights: without the
    reference is the baseline. `precision` is that of a Candidate. The weight of `reference` itself is replaced.

    Instead of a model it takes candidates, as control_sweep does.
    """
    return _swept("reference", _candidates(model, precision, "reference_sweep"), reference, weights)


def _swept(axis: str, given: tuple[Candidate, ...], guide: Control | Reference,
           weights: Iterable[float]) -> tuple[Candidate, ...]:
    """Every candidate with the guide at every weight; at 0 without it. The field of a candidate is called as its axis."""
    listed = tuple(map(float, swept_numbers(weights, f"{axis}_sweep: weights", "(0, 0.5, 1, 1.5)")))
    candidates = []
    for candidate in given:
        if axis in candidate.axes:
            raise ValueError(f"{axis}_sweep: candidate {candidate.name!r} has the axis {axis!r} already; sweep it once")
        for weight in listed:
            name = " ".join(filter(None, [candidate.name, f"{axis}={weight:g}"]))
            field = f"{axis}s"
            guides: dict[str, Any] = {field: (*getattr(candidate, field), *([replace(guide, weight=weight)] if weight else []))}
            candidates.append(replace(candidate, name=name, axes={**candidate.axes, axis: weight}, **guides))
    return tuple(candidates)


def _candidates(given: Given, precision: str, sweep: str) -> tuple[Candidate, ...]:
    """The candidates that are guided; a model is one without a name."""
    if isinstance(given, os.PathLike):
        given = os.fspath(given)
    if isinstance(given, MODELS):
        return (Candidate(name="", model=given, precision=precision),)
    if precision:
        raise ValueError(f"{sweep}: precision is for a model; candidates have their own")
    return (given,) if isinstance(given, Candidate) else tuple(given)
