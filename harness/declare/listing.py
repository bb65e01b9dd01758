"""Lists and texts in a message, cut to a bounded length: the first entries, and how many more there are."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from typing import Final

LISTED: Final = 3
LONGEST_ENTRY: Final = 160
LONGEST_LIST: Final = 400
LONGEST_MESSAGE: Final = 2000


def brief(text: str, most: int = LONGEST_MESSAGE) -> str:
    """A message of at most `most` characters: its start and its end, and how many characters are between them."""
    if len(text) <= most:
        return text
    end = most // 4
    return f"{text[:most - end - 40]} ... {len(text) - most} more characters ... {text[-end:]}"


def first_of(entries: Collection[object], most: int = LISTED, between: str = ", ", longest: int = LONGEST_ENTRY) -> str:
    """The first `most` entries, or as many as fit into a list of bounded length, and the number of the others: "a, b, c and 4
    more". Every entry is cut to `longest` characters, and the first is always there."""
    shown: list[str] = []
    room = LONGEST_LIST
    for entry in islice(entries, most):
        text = brief(str(entry), longest)
        if shown and len(text) > room:
            break
        shown.append(text)
        room -= len(text) + len(between)
    more = len(entries) - len(shown)
    listed = between.join(shown)
    return f"{listed} and {more} more" if more > 0 else listed
