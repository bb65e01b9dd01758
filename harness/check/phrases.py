"""The phrases that every check says alike: unknown names, things given twice, numbers. suite.py and merge.py use them."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator


def nearest(name: object, known: Collection[str]) -> str:
    """What to say of an unknown name: the nearest known ones, or all of them."""
    close = difflib.get_close_matches(str(name), list(known), n=2, cutoff=0.5)
    said = f"did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    return f"{said}Known: {', '.join(sorted(known))}"


def unknown(kind: str, names: Iterable[object], known: Collection[str]) -> Iterator[str]:
    """One phrase per name that is not among the known."""
    yield from (f"unknown {kind} {name!r}; {nearest(name, known)}" for name in names if name not in known)


def doubles(kind: str, names: Iterable[object]) -> Iterator[str]:
    """One phrase per name that is given more than once."""
    yield from (f"{kind} {name!r} is given {count} times" for name, count in Counter(names).items() if count > 1)


def number(value: object) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
