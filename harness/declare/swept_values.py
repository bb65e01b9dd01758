"""What a sweep is given: models, adapters and lists of numbers, and what is said where they are something else."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

from harness.declare.listing import brief
from harness.declare.models import MODELS, Adapter, Merge, Model

_Number = TypeVar("_Number", bound=float)


def swept_numbers(values: Iterable[_Number], what: str, example: str, may_be_empty: bool = False) -> tuple[_Number, ...]:
    """The numbers as a tuple. Raises ValueError for an empty list, a single number, a text, and anything that is not a number:
    `what` names the sweep and its argument, and `example` is one that works."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise ValueError(f"{what} is {values!r}; expected a list of numbers, such as {example}")  # noqa: TRY004, as for all misfits
    listed = tuple(values)
    if not listed and not may_be_empty:
        raise ValueError(f"{what} is empty; expected numbers, such as {example}")
    for value in listed:
        if isinstance(value, bool | str | bytes) or not hasattr(value, "__float__"):
            raise ValueError(f"{what} holds {value!r}; expected numbers, such as {example}")
    return listed


def swept_model(model: Model | os.PathLike[str], what: str) -> Model:
    """A model, a path object as text. Raises ValueError for anything else: `what` names the sweep and its argument."""
    if isinstance(model, os.PathLike):
        return os.fspath(model)
    if isinstance(model, MODELS):
        return model
    raise ValueError(f"{what} is {brief(repr(model))}; expected a model, such as 'a.safetensors', 'zoo:base' or a Merge")


def swept_merge(merge: Merge, what: str) -> Merge:
    """A merge. Raises ValueError for anything else: `what` names the sweep and its argument."""
    if isinstance(merge, Merge):
        return merge
    raise ValueError(f"{what} is {brief(repr(merge))}; expected a Merge, such as Merge(a='a.safetensors', b='b.safetensors')")


def swept_adapter(adapter: Adapter | str | os.PathLike[str], what: str) -> Adapter:
    """An adapter, or that of a path. Raises ValueError for anything else: `what` names the sweep and its argument."""
    if isinstance(adapter, Adapter):
        return adapter
    if isinstance(adapter, str | os.PathLike):
        return Adapter(path=os.fspath(adapter))
    raise ValueError(f"{what} is {brief(repr(adapter))}; expected a file, such as 'style.safetensors', or an Adapter")
