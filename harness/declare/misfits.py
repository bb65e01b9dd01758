"""Finds values in a dataclass, at any depth, that do not have their annotated types. The caller words the messages."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

LARGEST_INTEGER: Final = 2 ** 63
LARGEST_NUMBER: Final = 1e100
"""Every number of a declaration or a record is smaller, of either sign: larger ones do not fit into a file, or overflow what is
computed with them. One limit for what may be declared and for what is read of a run, so that every run can be read."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step from a declaration to a value in it: a field by its name, an item of a tuple by its number, a key of a mapping,
    or the value at that key."""

    kind: Literal["field", "item", "key", "value"]
    at: Any


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """A value that `hint` does not allow, and the path to it."""

    path: tuple[Step, ...]
    value: Any
    hint: Any


Fits = Callable[[Any, Any], bool]
"""Whether a value is of a type: a class, `float` for any number, or `tuple` and `Mapping` from outside."""


def misfits(declaration: Any, fits: Fits, inner: bool = True, path: tuple[Step, ...] = ()) -> Iterator[Misfit]:
    """Yields every misfit of a dataclass, in the order of its fields. With `inner`, nested dataclasses are checked too. `Any`
    allows everything. In a union, the first type whose outer type fits is used."""
    kind: Any = type(declaration)
    for name, hint in _hints(kind).items():
        yield from _of_value(getattr(declaration, name), hint, fits, inner, (*path, Step(kind="field", at=name)))


def options(hint: Any) -> tuple[Any, ...]:
    """The types that a union allows; any other hint allows only itself."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {spec.name: hints[spec.name] for spec in fields(kind)}


def _of_value(value: Any, hint: Any, fits: Fits, inner: bool, path: tuple[Step, ...]) -> Iterator[Misfit]:
    if hint is Any:
        return
    chosen = next((option for option in options(hint) if fits(value, get_origin(option) or option)), None)
    if chosen is None:
        yield Misfit(path=path, value=value, hint=hint)
    elif get_origin(chosen) is tuple:
        kind = get_args(chosen)[0]
        if isinstance(kind, type) and not is_dataclass(kind) and all(fits(item, kind) for item in value):
            return  # a journal holds tuples of many thousands of names
        for number, item in enumerate(value):
            yield from _of_value(item, kind, fits, inner, (*path, Step(kind="item", at=number)))
    elif get_origin(chosen) is Mapping:
        for key, item in value.items():
            yield from _of_value(key, get_args(chosen)[0], fits, False, (*path, Step(kind="key", at=key)))
            yield from _of_value(item, get_args(chosen)[1], fits, inner, (*path, Step(kind="value", at=key)))
    elif inner and is_dataclass(value):
        yield from misfits(value, fits, inner, path)
