"""Candidates between two declared ones: every number in which the declarations differ is interpolated linearly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

from harness.declare import Candidate, Ensemble, Model, Relay, Suite, plain, restore
from harness.declare.effective_grid import run_grids

Leaf: TypeAlias = tuple[str, Any, Any]
"""Where two declarations differ ("model.alpha"), and the two values."""

_NAMED: Final = ("name", "axes")
_WHOLE: Final = ("steps", "seed", "clip_skip", "width", "height")
_COUNTED: Final = "steps"
"""The whole number between two of which others make sense; sizes are multiples, and seeds and layers have no order."""
_LEFT_OUT_AT_0: Final = {"stages": "strength", "controls": "weight", "references": "weight"}
"""What a sweep leaves out of a candidate at 0, with the number that is 0 then."""
NOT_REFINED: Final = "not refined"
"""The beginning of the note why a look added no candidate between two."""
_DIGITS: Final = 9
"""Decimals kept, so that a name and a candidate's hash hold 0.425 and not 0.42500000000000004."""


class RefiningError(ValueError):
    """No candidate can be interpolated between two; the message names both and the field that differs."""


def between(low: Candidate, high: Candidate, axis: str, value: float) -> Candidate:
    """The candidate at `value` of `axis`, low < value < high, named as a sweep would: "alpha=0.425".

    Every number in which the two declarations differ is interpolated linearly, x + t (y - x) with the share
    t = (value - low) / (high - low) of the axis (a merge's alpha, an adapter's weight, values by block); the other axes too.
    A model alone counts as the end of a relay or an ensemble in which the other candidate has it, and a candidate at 0 that
    lacks the other's last stage, control or reference as one that has it at 0. Raises RefiningError if anything else
    differs (a file, a method, the number of adapters).
    """
    ends = low.axes.get(axis), high.axes.get(axis)
    at = [float(end) for end in ends if isinstance(end, int | float)]
    if len(at) != 2 or not at[0] < value < at[1]:
        raise RefiningError(f"between {low.name!r} and {high.name!r} there is no {axis}={value:g}: their values are "
                            f"{ends[0]!r} and {ends[1]!r}; expected a smaller and a larger number")
    share = (value - at[0]) / (at[1] - at[0])
    one = _unnamed(_from_nothing(replace(low, model=_as_end(low.model, high.model)), high, at))
    other = _unnamed(_from_nothing(replace(high, model=_as_end(high.model, low.model)), low, at[::-1]))
    if difference := next((leaf for leaf in _differences(one, other, "") if not _is_between(leaf, share)), None):
        if _name(difference) == _COUNTED and all(map(_is_number, difference[1:])):
            raise RefiningError(f"between {low.name!r} and {high.name!r} no candidate fits {axis}={value:g}: its "
                                f"{difference[0]} would not be a whole number")
        raise RefiningError(f"between {low.name!r} and {high.name!r} there is no candidate: {difference[0]} is "
                            f"{_words(difference[1])} for one and {_words(difference[2])} for the other, and only "
                            "numeric fields can be interpolated. Declare "
                            f"candidates that differ only in {axis}, or remove refine from the budget")
    axes = {name: _mixed(x, high.axes[name], share) for name, x in low.axes.items()
            if name != axis and (high.axes.get(name) == x or (_is_number(x) and _is_number(high.axes.get(name))))}
    named = f"{axis}={round(value, _DIGITS):g}"
    candidate: Candidate = restore({**_mixed(one, other, share), "name": named, "axes": {**axes, axis: float(value)}})
    return candidate


def refined(suite: Suite, low: Candidate, high: Candidate, axis: str, value: float) -> Candidate:
    """As `between`, for the grid of a suite. Raises RefiningError also if a stage of the candidate would run none of its steps,
    or as many as that of one of the two, so that its images would be the same."""
    candidate = between(low, high, axis, value)
    for end in (low, high):
        if len(end.stages) == len(candidate.stages) and _run(suite, end) == _run(suite, candidate):
            same = tuple(replace(own, strength=other.strength) for own, other in zip(candidate.stages, end.stages, strict=True))
            if candidate.stages and replace(candidate, stages=same).key == end.key:
                raise RefiningError(f"between {low.name!r} and {high.name!r} no candidate fits {axis}={value:g}: it would "
                                    f"run as many steps as {end.name!r}. Give the suite more steps for finer strengths")
    if 0 in _run(suite, candidate):
        raise RefiningError(f"between {low.name!r} and {high.name!r} no candidate fits {axis}={value:g}: its last stage "
                            "would run none of its steps. Give the suite more steps for finer strengths")
    return candidate


def _run(suite: Suite, candidate: Candidate) -> list[int]:
    """The steps that the later stages of a candidate run."""
    return [grid.steps for grid in run_grids(suite, candidate)[1:]]


def _from_nothing(candidate: Candidate, other: Candidate, at: Sequence[float]) -> Candidate:
    """A candidate at 0 of its axis with what the other has more, at 0, as sweeps leave out what does nothing. `at` are the values
    of both on the axis, which is the number of what the other has."""
    if at[0]:
        return candidate
    for field, number in _LEFT_OUT_AT_0.items():
        own, theirs = getattr(candidate, field), getattr(other, field)
        if len(theirs) == len(own) + 1 and getattr(theirs[-1], number) == at[1]:
            missing: dict[str, Any] = {field: (*own, replace(theirs[-1], **{number: 0.0}))}
            return replace(candidate, **missing)
    return candidate


def _as_end(model: Model, other: Model) -> Model:
    """A model alone as an end of the other candidate's ensemble or relay, as their sweeps declare the ends."""
    if isinstance(model, Ensemble | Relay):
        return model
    if isinstance(other, Ensemble) and model in other.models:
        return replace(other, weights=tuple(float(place == other.models.index(model)) for place in range(len(other.models))))
    if isinstance(other, Relay) and len(other.models) == 2 and model in other.models:
        return replace(other, at=(float(model == other.models[0]),))
    return model


def _differences(one: Any, other: Any, place: str) -> Iterator[Leaf]:
    """Every leaf in which two pieces of plain data differ; what only one of them has is a leaf itself."""
    if isinstance(one, dict) and isinstance(other, dict) and (one.keys() == other.keys() or one.get("is") == other.get("is")):
        for key in dict.fromkeys((*one, *other)):
            yield from _differences(one.get(key), other.get(key), f"{place}.{key}".lstrip("."))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (x, y) in enumerate(zip(one, other, strict=True)):
            yield from _differences(x, y, f"{place}[{number}]")
    elif one != other:
        yield place, one, other


def _mixed(one: Any, other: Any, share: float) -> Any:
    """Plain data at the given share of the way between two that differ only in numbers."""
    if isinstance(one, dict):
        return {key: _mixed(one[key], other[key], share) for key in one}
    if isinstance(one, list):
        return [_mixed(x, y, share) for x, y in zip(one, other, strict=True)]
    if one == other:
        return one
    number = round(one + share * (other - one), _DIGITS)
    return int(number) if isinstance(one, int) and isinstance(other, int) and number == int(number) else number


def counts_steps(one: Candidate, other: Candidate) -> bool:
    """Whether two candidates differ in a number of steps, so that only whole numbers are between them."""
    return any(_name(leaf) == _COUNTED for leaf in _differences(_unnamed(one), _unnamed(other), ""))


def _unnamed(candidate: Candidate) -> dict[str, Any]:
    return {name: value for name, value in plain(candidate).items() if name not in _NAMED}


def _is_between(leaf: Leaf, share: float) -> bool:
    """Whether the two values can be interpolated: numbers can, except sizes and seeds; numbers of steps where it is whole."""
    if not all(map(_is_number, leaf[1:])):
        return False
    return _name(leaf) not in _WHOLE or (_name(leaf) == _COUNTED and isinstance(_mixed(*leaf[1:], share), int))


def _name(leaf: Leaf) -> str:
    return leaf[0].rpartition(".")[2]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _words(value: Any) -> str:
    """A value as an error names it: a declaration by its kind."""
    if value is None or value == []:
        return "not given"
    if isinstance(value, dict):
        return str(value.get("is", "a table"))
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
