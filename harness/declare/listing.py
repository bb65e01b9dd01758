"""A list in a message: its first entries, and how many more there are."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from typing import Final

from harness.records.harmless_text import brief

LISTED: Final = 3
LONGEST_ENTRY: Final = 200


def first_of(entries: Collection[object], most: int = LISTED) -> str:
    """The first `most` entries, each of a bounded length, and the number of the others: "a, b, c and 4 more"."""
    more = len(entries) - most
    listed = ", ".join(brief(str(entry), LONGEST_ENTRY) for entry in islice(entries, most))
    return f"{listed} and {more} more" if more > 0 else listed
