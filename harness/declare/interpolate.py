"""Candidates between two that were declared: every number in which the two declarations differ, at the same share of the way.
The plugin's race calls it when it refines an axis around the best."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from harness.declare import Candidate, plain, restore

Leaf: TypeAlias = tuple[str, Any, Any]
"""Where two declarations differ ("model.alpha"), and the two values."""

_NAMED: Final = ("name", "axes")
_WHOLE: Final = ("steps", "seed")
_DIGITS: Final = 9
"""Decimals that are kept, so that 0.425 is not 0.42500000000000004 in a name and in the hash of a candidate."""


class RefiningError(ValueError):
    """Two candidates with nothing between them; the text names both and what differs."""


def between(low: Candidate, high: Candidate, axis: str, value: float) -> Candidate:
    """The candidate at `value` of `axis`, low < value < high, named as a sweep would: "alpha=0.425".

    Every number in which the two declarations differ is interpolated linearly, x + t (y - x) with the share
    t = (value - low) / (high - low) of the axis (a merge's alpha, an adapter's weight, values by block); the other axes too.
    RefiningError where anything else differs (a file, a method, one more adapter), for there is nothing between two files.
    """
    ends = low.axes.get(axis), high.axes.get(axis)
    at = [float(end) for end in ends if isinstance(end, int | float)]
    if len(at) != 2 or not at[0] < value < at[1]:
        raise RefiningError(f"between {low.name!r} and {high.name!r} there is no {axis}={value:g}: their values are "
                            f"{ends[0]!r} and {ends[1]!r}; expected two numbers, the first one smaller, on both sides of it")
    share = (value - at[0]) / (at[1] - at[0])
    one, other = ({k: v for k, v in plain(c).items() if k not in _NAMED} for c in (low, high))
    if odd := next((leaf for leaf in _differences(one, other, "") if not _is_between(leaf)), None):
        raise RefiningError(f"between {low.name!r} and {high.name!r} there is no candidate: {odd[0]} is {_short(odd[1])} for one "
                            f"and {_short(odd[2])} for the other, and only numbers have something between them; declare "
                            f"candidates that differ in {axis} alone, or leave refine out of the budget")
    axes = {name: _mixed(x, high.axes[name], share) for name, x in low.axes.items()
            if name != axis and (high.axes.get(name) == x or (_is_number(x) and _is_number(high.axes.get(name))))}
    named = f"{axis}={round(value, _DIGITS):g}"
    made: Candidate = restore({**_mixed(one, other, share), "name": named, "axes": {**axes, axis: float(value)}})
    return made


def _differences(one: Any, other: Any, place: str) -> Iterator[Leaf]:
    """Every leaf in which two pieces of plain data differ; a table or list that the other lacks is a leaf itself."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from _differences(one[key], other[key], f"{place}.{key}".lstrip("."))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (x, y) in enumerate(zip(one, other, strict=True)):
            yield from _differences(x, y, f"{place}[{number}]")
    elif one != other:
        yield place, one, other


def _mixed(one: Any, other: Any, share: float) -> Any:
    """Plain data at a share of the way between two that differ in numbers alone."""
    if isinstance(one, dict):
        return {key: _mixed(one[key], other[key], share) for key in one}
    if isinstance(one, list):
        return [_mixed(x, y, share) for x, y in zip(one, other, strict=True)]
    return one if one == other else round(one + share * (other - one), _DIGITS)


def _is_between(leaf: Leaf) -> bool:
    """Whether there is anything between the two values: not between counts and seeds, which are whole numbers."""
    return all(map(_is_number, leaf[1:])) and leaf[0].rpartition(".")[2] not in _WHOLE


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 60 else f"{said[:57]}..."
