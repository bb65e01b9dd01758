"""The wrapper of a user's merge method: the method gets copies of the models, and its results are checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from harness.declare.rows import error_text
from harness.merge.apply import finite
from harness.merge.method import MergeError, MergeMethod, Parameter

if TYPE_CHECKING:
    from torch import Tensor

_Made = TypeVar("_Made")


def adopt_method(name: str, row: MergeMethod) -> MergeMethod:
    """The row with wrapped functions: any error in them becomes a MergeError that names the method.

    `widens` is switched off, because results would then not be checked. Raises ValueError for an invalid row.
    """
    if problems := list(_problems(row)):
        raise ValueError("; ".join(problems))
    return replace(
        row, widens=False, function=_function(name, row.function),
        survey=None if row.survey is None else _quietly(name, "survey", row.survey),
        limits_of=None if row.limits_of is None else _quietly(name, "limits_of", row.limits_of))


def _problems(row: MergeMethod) -> Iterator[str]:
    if not callable(row.function):
        yield f"function is {row.function!r}; expected a function"
    if row.version < 1:
        yield f"version is {row.version!r}; expected a positive integer"
    if row.models < 2:
        yield f"models is {row.models!r}; expected at least 2"
    if not row.many and row.models > 3:
        yield f"models is {row.models!r}; a method of more than 3 models needs many=True and takes the models in a list"
    if (row.survey is None) != (row.limits_of is None):
        yield "survey and limits_of go together; give both or neither"
    for word, end in (("at_zero", row.at_zero), ("at_one", row.at_one)):
        if end not in ("", "a", "b", "c"):
            yield f"{word} is {end!r}; expected 'a', 'b', 'c' or ''"
    for word, limits in (("alpha_range", row.alpha_range), ("beta_range", row.beta_range)):
        if limits is not None and not (len(limits) == 2 and limits[0] <= limits[1]):
            yield f"{word} is {limits!r}; expected two numbers, the lower one first, or None"
    yield from (f"parameters hold {p!r}; expected Parameter(...)" for p in row.parameters if not isinstance(p, Parameter))


def _quietly(name: str, part: str, function: Callable[..., _Made]) -> Callable[..., _Made]:
    """The function, with every exception turned into a MergeError."""
    def call(*given: Any) -> _Made:
        try:
            return function(*given)
        except (Exception, SystemExit) as error:
            raise MergeError(f"{part} of merge method {name!r} raised {error_text(error)}") from error

    return call


def _function(name: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def merge(*models: Any, **numbers: Any) -> Tensor:
        flat: list[Tensor] = [t for given in models for t in (given if isinstance(given, list | tuple) else [given])]
        # Copies: models stay in memory for the next candidate, and a method that changes one would change that too.
        copies = [[t.clone() for t in given] if isinstance(given, list | tuple) else given.clone() for given in models]
        try:
            result = function(*copies, **numbers)
        except (Exception, SystemExit) as error:
            raise MergeError(f"merge method {name!r} raised {error_text(error)}") from error
        if oddity := _oddity(result, flat):
            raise MergeError(f"merge method {name!r} returned {oddity}")
        return result

    return merge


def _oddity(made: object, inputs: list[Tensor]) -> str:
    """What is wrong with a result, or an empty string."""
    import torch

    like = inputs[0]
    if not isinstance(made, torch.Tensor):
        return f"a {type(made).__name__}; expected a tensor"
    for word, given, expected in (("shape", tuple(made.shape), tuple(like.shape)), ("dtype", made.dtype, like.dtype),
                                  ("device", made.device, like.device)):
        if given != expected:
            return f"a tensor of {word} {given}; expected {expected}, like its inputs"
    # Damaged inputs are reported where they are read.
    return "NaN or infinite values" if not finite(made) and all(map(finite, inputs)) else ""
