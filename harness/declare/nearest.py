"""The hint for an unknown name in an error: the nearest known names, and all known names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from harness.declare.listing import first_of

_LONGEST: Final = 300
"""Characters of a name that are compared: a hostile name of megabytes against a thousand others would take hours."""
MOST_LISTED: Final = 60
"""Known names that are listed, if they fit."""


def closest(name: object, known: Iterable[str], most: int = 1, cutoff: float = 0.5) -> list[str]:
    """Up to `most` known names with a similarity to `name` of at least `cutoff` (0 to 1), the most similar first."""
    return difflib.get_close_matches(str(name)[:_LONGEST], list(known), n=most, cutoff=cutoff)


def did_you_mean(name: object, known: Iterable[str], list_known: bool = True) -> str:
    """The hint, to be written after "; ": "did you mean 'ties'? Known: linear, ties, slerp", or "known: linear, ties, slerp" if
    no name is similar. Without `list_known` only the question; empty if no name is known or similar. Names keep their order;
    those of a set are sorted."""
    names = sorted(known) if isinstance(known, set | frozenset) else list(known)
    similar = closest(name, names, most=2)
    question = f"did you mean {first_of([*map(repr, similar)], between=' or ')}?" if similar else ""
    listed = f"{'Known' if question else 'known'}: {first_of(names, MOST_LISTED)}" if list_known and names else ""
    return " ".join(part for part in (question, listed) if part)
