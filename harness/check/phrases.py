"""Phrases and predicates that all checks share: unknown names, duplicates, numbers."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from harness.declare.nearest import did_you_mean


def unknown(kind: str, names: Iterable[object], known: Collection[str]) -> Iterator[str]:
    """One phrase per name that is not among the known."""
    yield from (f"unknown {kind} {name!r}; {did_you_mean(name, known)}" for name in names if name not in known)


def doubles(kind: str, names: Iterable[object]) -> Iterator[str]:
    """One phrase per name that is given more than once."""
    yield from (f"{kind} {name!r} is given {count} times" for name, count in Counter(names).items() if count > 1)


def lookalikes(kind: str, names: Iterable[str]) -> Iterator[str]:
    """One phrase per name that differs from an earlier one only in white space or in its Unicode form, which no page shows."""
    first: dict[str, str] = {}
    for name in dict.fromkeys(names):
        before = first.setdefault(" ".join(unicodedata.normalize("NFC", name).split()), name)
        if before != name:
            yield f"{kind} {name!a} looks like {before!a}; rename one of them"


def number(value: object) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
