"""Checks that the fields of a declaration hold what their annotations say. A suite file can put any object anywhere, so this
check comes before all others."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

LONGEST_NAME: Final = 100
_LARGEST: Final = 2 ** 63
_WORDS: Final[dict[Any, tuple[str, str]]] = {
    str: ("text", "strings"), float: ("a number", "numbers"), int: ("an integer", "integers"),
    bool: ("True or False", "truth values"), type(None): ("None", "None")}
_EXAMPLES: Final[dict[Any, str]] = {str: "'unet'", float: "1.0", int: "1"}


def type_problems(declaration: Any, inner: bool = True) -> Iterator[str]:
    """One phrase per field of a dataclass that does not have its annotated type.

    With `inner`, the fields of nested declarations are checked too; without it, only the types of these declarations.
    """
    hints = get_type_hints(type(declaration))
    for spec in fields(declaration):
        yield from _value(f"field {spec.name}", getattr(declaration, spec.name), hints[spec.name], inner)


def shown(value: object) -> str:
    """The value as its author wrote it, cut to one line; the name of its type if it cannot be printed."""
    try:
        text = repr(value)
    except Exception:  # the repr of a foreign object may raise anything
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def name_problem(name: str) -> str:
    """Why the text cannot name something in a table, a file or a terminal; empty if it can."""
    if not name.strip():
        return f"{shown(name)} is empty"
    if len(name) > LONGEST_NAME:
        return f"{shown(name)} has {len(name)} characters; expected at most {LONGEST_NAME}"
    return "" if name.isprintable() else f"{shown(name)} holds characters that cannot be printed"


def _value(place: str, value: Any, hint: Any, inner: bool) -> Iterator[str]:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        chosen = next((o for o in get_args(hint) if _fits(value, o)), None)
        if chosen is None:
            yield _wrong(place, value, _expected(hint))
        else:
            yield from _value(place, value, chosen, inner)
    elif origin is tuple:
        yield from _tuple(place, value, get_args(hint)[0], inner)
    elif origin is Mapping:
        yield from _mapping(place, value, get_args(hint), inner)
    elif not _fits(value, hint):
        yield _wrong(place, value, _expected(hint))
    elif is_dataclass(hint):
        if inner:
            yield from (f"{place.removeprefix('field ')}: {phrase}" for phrase in type_problems(value))
    else:
        yield from _extreme(place, value)


def _tuple(place: str, value: Any, hint: Any, inner: bool) -> Iterator[str]:
    if isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from _value(f"{place.removeprefix('field ')}[{number}]", item, hint, inner)
        return
    many = _WORDS[hint][1] if hint in _WORDS else _expected(hint)
    worded = str in _options(hint)
    example = shown(value) if worded and isinstance(value, str) else _EXAMPLES.get(
        hint, "'model.safetensors'" if worded else f"{_expected(hint)}(...)")
    given = shown(value) if isinstance(value, str) else f"{shown(value)} ({type(value).__name__})"
    yield f"{place.removeprefix('field ')} is {given}; expected a tuple of {many}, like ({example},)"


def _mapping(place: str, value: Any, hints: tuple[Any, ...], inner: bool) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield _wrong(place, value, "a mapping, like {'name': 'value'}")
        return
    for key, item in value.items():
        yield from _value(f"{place}: the key", key, hints[0], False)
        yield from _value(f"{place}[{shown(key)}]", item, hints[1], inner)


def _fits(value: Any, hint: Any) -> bool:
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _extreme(place: str, value: Any) -> Iterator[str]:
    """Text and numbers of the right type that no file can hold."""
    if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        yield f"{place} has more than 64 bits; expected a smaller number"
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            yield f"{place} is {ascii(value)[:80]}, which holds a lone surrogate; expected text that UTF-8 can write"


def _wrong(place: str, value: object, expected: str) -> str:
    return f"{place} is None; expected {expected}" if value is None else (
        f"{place} is {shown(value)} ({type(value).__name__}); expected {expected}")


def _expected(hint: Any) -> str:
    options = _options(hint)
    names = ["a path" if option is str and any(map(is_dataclass, options)) else
             _WORDS[option][0] if option in _WORDS else f"harness.{option.__name__}" for option in options]
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]


def _options(hint: Any) -> tuple[Any, ...]:
    """The members of a union; of any other hint, the hint itself."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
