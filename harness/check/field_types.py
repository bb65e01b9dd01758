"""Checks that the fields of a declaration hold what their annotations say. A suite file can put any object anywhere, so this
check comes before all others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from math import inf
from typing import Any, Final, get_args, get_origin

from harness.declare.misfits import LARGEST_INTEGER, LARGEST_NUMBER, Misfit, Step, misfits, options

LONGEST_NAME: Final = 100
_WORDS: Final[dict[Any, tuple[str, str]]] = {
    str: ("text", "strings"), float: ("a number", "numbers"), int: ("an integer", "integers"),
    bool: ("True or False", "truth values"), type(None): ("None", "None")}
_EXAMPLES: Final[dict[Any, str]] = {float: "1.0", int: "1"}
_WORDS_OF_FIELDS: Final = {"parts": "unet", "force": "prediction", "metrics": "clip_score", "presets": "FLAT_50",
                           "savers": "vae_slicing", "low_memory": "vae_on_host"}
"""A word that each field of several words may hold; those of other fields are the user's own names."""


def type_problems(declaration: Any, inner: bool = True) -> Iterator[str]:
    """One phrase per field of a dataclass that does not have its annotated type.

    With `inner`, the fields of nested declarations are checked too; without it, only the types of these declarations.
    """
    yield from map(_phrase, misfits(declaration, _fits, inner))


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


def _fits(value: Any, kind: Any) -> bool:
    return _is_a(value, kind) and not _extreme(value)


def _is_a(value: Any, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, get_origin(kind) or kind)


def _extreme(value: Any) -> str:
    """What is wrong with text or a number that no file can hold; empty for any other value."""
    if isinstance(value, int) and abs(value) >= LARGEST_INTEGER:
        return "has more than 64 bits; expected a smaller number"
    if isinstance(value, float) and LARGEST_NUMBER <= abs(value) < inf:
        return f"is {value!r}; expected a number below {LARGEST_NUMBER:g}"
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"is {ascii(value)[:80]}, which holds a lone surrogate; expected text that UTF-8 can write"
    return ""


def _phrase(misfit: Misfit) -> str:
    value, hint = misfit.value, misfit.hint
    before, here = _place(misfit.path)
    if get_origin(hint) is tuple:
        return f"{before}{_bare(here)} {_not_a_tuple(value, get_args(hint)[0], str(misfit.path[-1].at))}"
    extreme = _extreme(value)
    if extreme and any(_is_a(value, kind) for kind in options(hint)):
        return f"{before}{here} {extreme}"
    given = "None" if value is None else f"{shown(value)} ({type(value).__name__})"
    return f"{before}{here} is {given}; expected {_expected(hint)}"


def _place(path: tuple[Step, ...]) -> tuple[str, str]:
    """The way to a value in words: ("", "field seed"), ("prompts[2]: ", "field text"), ("", "field weights: the key")."""
    before, here = "", ""
    for step in path:
        if step.kind == "field":
            before, here = f"{before}{_bare(here)}: " if here else "", f"field {step.at}"
        elif step.kind == "item":
            here = f"{_bare(here)}[{step.at}]"
        else:
            here += ": the key" if step.kind == "key" else f"[{shown(step.at)}]"
    return before, here


def _bare(place: str) -> str:
    return place.removeprefix("field ")


def _not_a_tuple(value: Any, hint: Any, field: str) -> str:
    many = _WORDS[hint][1] if hint in _WORDS else _expected(hint)
    worded = str in options(hint)
    example = shown(value) if worded and isinstance(value, str) else _EXAMPLES.get(
        hint, repr(_WORDS_OF_FIELDS.get(field, "name")) if hint is str else
        "'model.safetensors'" if worded else f"{_expected(hint)}(...)")
    given = shown(value) if isinstance(value, str) else f"{shown(value)} ({type(value).__name__})"
    return f"is {given}; expected a tuple of {many}, like ({example},)"


def _expected(hint: Any) -> str:
    if get_origin(hint) is Mapping:
        return "a mapping, like {'name': 'value'}"
    allowed = options(hint)
    mapped = any(get_origin(option) is Mapping for option in allowed)
    names = ["a path" if option is str and not mapped and any(map(is_dataclass, allowed)) else
             "a mapping" if get_origin(option) is Mapping else
             _WORDS[option][0] if option in _WORDS else f"harness.{option.__name__}" for option in allowed]
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
