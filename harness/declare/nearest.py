"""What an error says of an unknown name: the nearest known ones, and all that are known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

_LONGEST: Final = 300
"""Characters of a name that are compared: a hostile name of megabytes against a thousand others would take hours."""


def closest(name: object, known: Iterable[str], most: int = 1, cutoff: float = 0.5) -> list[str]:
    """Up to `most` known names like `name`, the most similar first, none of a similarity below `cutoff` (0 to 1)."""
    return difflib.get_close_matches(str(name)[:_LONGEST], list(known), n=most, cutoff=cutoff)


def did_you_mean(name: object, known: Iterable[str], list_known: bool = True) -> str:
    """ "did you mean 'ties'? Known: linear, ties, slerp"; without the question where nothing is similar, without the list
    where that would be too long. Empty where there is nothing to say. Names keep their order; those of a set are sorted."""
    names = sorted(known) if isinstance(known, set | frozenset) else list(known)
    similar = closest(name, names, most=2)
    question = f"did you mean {' or '.join(map(repr, similar))}?" if similar else ""
    listed = f"Known: {', '.join(names)}" if list_known and names else ""
    return " ".join(part for part in (question, listed) if part)
