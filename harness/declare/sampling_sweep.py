"""The sweep over ways of sampling: steps by samplers, of a model or of candidates that are swept already."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from itertools import product

from harness.declare import MODELS, AxisValue, Candidate, Model, Sampling
from harness.declare.listing import brief
from harness.declare.swept_values import swept_model, swept_numbers


def sampling_sweep(model: Model | os.PathLike[str] | Candidate | Iterable[Candidate], *, steps: Iterable[int] = (),
                   samplers: Iterable[str] = (), sampling: Sampling | None = None,
                   precision: str = "") -> tuple[Candidate, ...]:
    """One candidate per number of steps and sampler, named "steps=8 sampler=euler"; both are axes. What has a single value is in
    neither names nor axes. `sampling` is what all of them have in common, such as Sampling(guidance=1), and `precision` is that
    of a Candidate.

    Instead of a model it takes candidates, such as those of alpha_sweep: every one of them is sampled in every way, as
    "alpha=0.5 steps=8". Raises ValueError if neither steps nor samplers are given, and for what is said twice.
    """
    counts = swept_numbers(steps, "sampling_sweep: steps", "(4, 8, 12)", may_be_empty=True)
    names = (samplers,) if isinstance(samplers, str) else tuple(samplers)
    if not counts and not names:
        raise ValueError("sampling_sweep: no steps and no samplers are given; give some, such as steps=(4, 8, 12)")
    common = Sampling() if sampling is None else sampling
    if not isinstance(common, Sampling):
        raise ValueError(  # noqa: TRY004, as for all misfits
            f"sampling_sweep: sampling is {brief(repr(sampling))}; expected Sampling(...), such as Sampling(guidance=1)")
    for word, given, values in (("steps", common.steps, counts), ("sampler", common.sampler, names)):
        if given is not None and values:
            raise ValueError(f"sampling_sweep: {word} is {given!r} in sampling, and swept; remove it from one of them")
    swept = (*(["steps"] if len(counts) > 1 else []), *(["sampler"] if len(names) > 1 else []))
    candidates = []
    for candidate, count, name in product(_candidates(model, precision), counts or (None,), names or (None,)):
        at: dict[str, AxisValue] = {axis: value for axis, value in (("steps", count), ("sampler", name))
                                    if axis in swept and value is not None}
        if double := sorted(at.keys() & candidate.axes.keys()):
            raise ValueError(f"sampling_sweep: candidate {candidate.name!r} has the axis {double[0]!r} already; sweep it once")
        words = [f"{axis}={value}" for axis, value in at.items()]
        own = {} if candidate.sampling is None else candidate.sampling.given
        chosen = {field: value for field, value in (("steps", count), ("sampler", name)) if value is not None}
        asked = {**own, **common.given, **chosen}
        candidates.append(replace(candidate, name=" ".join([*filter(None, [candidate.name]), *words]) or "model",
                                  axes={**candidate.axes, **at}, sampling=Sampling(**asked)))
    return tuple(candidates)


def _candidates(given: Model | os.PathLike[str] | Candidate | Iterable[Candidate], precision: str) -> tuple[Candidate, ...]:
    """The candidates that are sampled in several ways; a model is one without a name."""
    if isinstance(given, (*MODELS, os.PathLike)):
        return (Candidate(name="", model=swept_model(given, "sampling_sweep: model"), precision=precision),)
    if precision:
        raise ValueError("sampling_sweep: precision is for a model; candidates have their own")
    listed = (given,) if isinstance(given, Candidate) else tuple(given) if isinstance(given, Iterable) else ()
    if not listed:
        raise ValueError(f"sampling_sweep: model is {brief(repr(given))}; expected a model, or candidates, as of alpha_sweep")
    if odd := next((one for one in listed if not isinstance(one, Candidate)), None):
        raise ValueError(f"sampling_sweep: expected a model or candidates, and one of them is {brief(repr(odd))}")
    return listed
