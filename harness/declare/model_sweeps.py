"""Sweeps over candidates of several models: how much each counts in an ensemble, and when one takes over in a relay."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from harness.declare.candidate import Candidate
from harness.declare.models import Ensemble, Recipe, Relay
from harness.declare.swept_values import swept_numbers

_DIGITS: Final = 9
"""Decimals of a weight, so that it is 0.3 beside 0.7, and not 0.30000000000000004."""


def ensemble_sweep(a: Recipe | os.PathLike[str], b: Recipe | os.PathLike[str], weights: Iterable[float], *, texts: str = "own",
                   precision: str = "") -> tuple[Candidate, ...]:
    """One candidate per weight of b, named "ensemble=0.35"; that of a is the rest, as in alpha_sweep. Put 0 and 1 among the
    weights: the parents alone are the controls. `texts` is that of an Ensemble and `precision` that of a Candidate."""
    first, second = _recipe(a), _recipe(b)
    candidates = []
    for weight in map(float, swept_numbers(weights, "ensemble_sweep: weights", "(0, 0.5, 1)")):
        model = first if weight == 0 else second if weight == 1 else Ensemble(
            models=(first, second), weights=(round(1 - weight, _DIGITS), weight), texts=texts)
        candidates.append(Candidate(name=f"ensemble={weight:g}", axes={"ensemble": weight}, model=model, precision=precision))
    return tuple(candidates)


def relay_sweep(a: Recipe | os.PathLike[str], b: Recipe | os.PathLike[str], at: Iterable[float], *, vae: str = "first",
                precision: str = "") -> tuple[Candidate, ...]:
    """One candidate per share of the steps at which b takes over from a, named "at=0.25". Put 0 and 1 among them: b alone and a
    alone are the controls. `vae` is that of a Relay and `precision` that of a Candidate."""
    first, second = _recipe(a), _recipe(b)
    candidates = []
    for share in map(float, swept_numbers(at, "relay_sweep: at", "(0, 0.25, 0.5, 1)")):
        model = second if share == 0 else first if share == 1 else Relay(models=(first, second), at=(share,), vae=vae)
        candidates.append(Candidate(name=f"at={share:g}", axes={"at": share}, model=model, precision=precision))
    return tuple(candidates)


def _recipe(model: Recipe | os.PathLike[str]) -> Recipe:
    return os.fspath(model) if isinstance(model, os.PathLike) else model
