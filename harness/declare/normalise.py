"""What a suite author may write for a field, brought to the one form that declarations hold: tuples for lists and
generators, text for paths, Python's numbers for numpy's. Every declaration calls `settle` as it is made."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Final

_EXACT: Final = 2 ** 53
"""Up to here a float holds every whole number."""


def settle(declaration: Any) -> None:
    """Lets a suite write lists, ranges and generators for tuples, paths for text, numpy's scalars and whole numbers for
    numbers, so that 1 and 1.0 declare the same. What fits no annotation is left as it is, for the check to name."""
    for spec in fields(declaration):
        value, kind = getattr(declaration, spec.name), str(spec.type)
        number = "float" in kind or kind.startswith("Alpha")
        listed = kind.startswith("tuple[") and not isinstance(value, tuple | str | bytes | Mapping | set | frozenset)
        if isinstance(value, tuple) or (listed and isinstance(value, Iterable) and getattr(value, "ndim", 1) != 0):
            value = tuple(_native(item, number) for item in value)
        elif isinstance(value, Mapping):
            value = {key: _native(item, number) for key, item in value.items()}
        object.__setattr__(declaration, spec.name, _native(value, number and not kind.startswith(("tuple[", "Mapping["))))


def _native(value: Any, as_float: bool = False) -> Any:
    """Text of a path, Python's own number of a numpy scalar, a float of a whole number; anything else unchanged."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if as_float and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _EXACT:
        return float(value)
    return value
