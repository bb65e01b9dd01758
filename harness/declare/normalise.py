"""Normalises the fields of declarations: lists and generators become tuples, paths become text, numpy scalars become Python
numbers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Final

_EXACT: Final = 2 ** 53
"""A float holds every integer up to this one exactly."""


def settle(declaration: Any) -> None:
    """Lets a suite use lists, ranges and generators for tuples, paths for text, and numpy scalars and integers for floats, so
    that 1 and 1.0 declare the same. A value that fits no annotation is left unchanged; the check reports it."""
    for spec in fields(declaration):
        value, kind = getattr(declaration, spec.name), str(spec.type)
        number = "float" in kind or kind.startswith("Alpha")
        tuples = any(option.startswith("tuple[") for option in kind.split(" | "))
        listed = tuples and not isinstance(value, tuple | str | bytes | Mapping | set | frozenset)
        if isinstance(value, tuple) or (listed and isinstance(value, Iterable) and getattr(value, "ndim", 1) != 0):
            value = tuple(_native(item, number) for item in value)
        elif isinstance(value, Mapping):
            value = {key: _native(item, number) for key, item in value.items()}
        object.__setattr__(declaration, spec.name, _native(value, number and not kind.startswith(("tuple[", "Mapping["))))


def _native(value: Any, as_float: bool = False) -> Any:
    """A path as text, a numpy scalar as a Python number, an integer as a float; anything else unchanged."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if as_float and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _EXACT:
        return float(value)
    return value
