"""The values that a sweep is given, and what is said where they are not a list of numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

_Number = TypeVar("_Number", bound=float)


def swept_numbers(values: Iterable[_Number], what: str, example: str) -> tuple[_Number, ...]:
    """The numbers as a tuple. Raises ValueError for a single number, a text, and anything that is not a number: `what` names the
    sweep and its argument, and `example` is one that works."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise ValueError(f"{what} is {values!r}; expected a list of numbers, such as {example}")  # noqa: TRY004, as for all misfits
    listed = tuple(values)
    for value in listed:
        if isinstance(value, bool | str | bytes) or not hasattr(value, "__float__"):
            raise ValueError(f"{what} holds {value!r}; expected numbers, such as {example}")
    return listed
