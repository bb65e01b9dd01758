"""Candidates between two declared ones: every number in which the declarations differ is interpolated linearly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final, TypeAlias

from harness.declare import Candidate, Ensemble, Model, Relay, plain, restore

Leaf: TypeAlias = tuple[str, Any, Any]
"""Where two declarations differ ("model.alpha"), and the two values."""

_NAMED: Final = ("name", "axes")
_WHOLE: Final = ("steps", "seed", "clip_skip", "width", "height")
_COUNTED: Final = "steps"
"""The whole number between two of which others make sense; sizes are multiples, and seeds and layers have no order."""
_DIGITS: Final = 9
"""Decimals kept, so that a name and a candidate's hash hold 0.425 and not 0.42500000000000004."""


class RefiningError(ValueError):
    """No candidate can be interpolated between two; the message names both and the field that differs."""


def between(low: Candidate, high: Candidate, axis: str, value: float) -> Candidate:
    """The candidate at `value` of `axis`, low < value < high, named as a sweep would: "alpha=0.425".

    Every number in which the two declarations differ is interpolated linearly, x + t (y - x) with the share
    t = (value - low) / (high - low) of the axis (a merge's alpha, an adapter's weight, values by block); the other axes too.
    A model alone counts as the end of a relay or an ensemble in which the other candidate has it. Raises RefiningError if
    anything else differs (a file, a method, the number of adapters).
    """
    ends = low.axes.get(axis), high.axes.get(axis)
    at = [float(end) for end in ends if isinstance(end, int | float)]
    if len(at) != 2 or not at[0] < value < at[1]:
        raise RefiningError(f"between {low.name!r} and {high.name!r} there is no {axis}={value:g}: their values are "
                            f"{ends[0]!r} and {ends[1]!r}; expected a smaller and a larger number")
    share = (value - at[0]) / (at[1] - at[0])
    one = _unnamed(replace(low, model=_as_end(low.model, high.model)))
    other = _unnamed(replace(high, model=_as_end(high.model, low.model)))
    if difference := next((leaf for leaf in _differences(one, other, "") if not _is_between(leaf, share)), None):
        if _name(difference) == _COUNTED and all(map(_is_number, difference[1:])):
            raise RefiningError(f"between {low.name!r} and {high.name!r} there is no candidate at {axis}={value:g}: its "
                                f"{difference[0]} would not be a whole number")
        raise RefiningError(f"between {low.name!r} and {high.name!r} there is no candidate: {difference[0]} is "
                            f"{_short(difference[1])} for one and {_short(difference[2])} for the other, and only "
                            "numeric fields can be interpolated. Declare "
                            f"candidates that differ only in {axis}, or remove refine from the budget")
    axes = {name: _mixed(x, high.axes[name], share) for name, x in low.axes.items()
            if name != axis and (high.axes.get(name) == x or (_is_number(x) and _is_number(high.axes.get(name))))}
    named = f"{axis}={round(value, _DIGITS):g}"
    candidate: Candidate = restore({**_mixed(one, other, share), "name": named, "axes": {**axes, axis: float(value)}})
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
    """Every leaf in which two pieces of plain data differ; a table or list that only one of them has is a leaf itself."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from _differences(one[key], other[key], f"{place}.{key}".lstrip("."))
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


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
