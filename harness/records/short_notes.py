"""Notes that list the names of tensors, with the first few of them and the number of the others."""

from __future__ import annotations

import re
from typing import Final

MOST_NAMES: Final = 5
_LIST: Final = re.compile(r"'[^']*'(?:, '[^']*')+")


def with_few_names(note: str, most: int = MOST_NAMES, where: str = "") -> str:
    """The note with at most so many names of each list in it: "'a', 'b' and 7 more". `where` says in brackets where all are."""
    def shortened(found: re.Match[str]) -> str:
        names = found[0].split(", ")
        return found[0] if len(names) <= most else f"{', '.join(names[:most])} and {len(names) - most} more{where}"
    return _LIST.sub(shortened, note)
