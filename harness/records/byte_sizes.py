"""Numbers of bytes in words."""

from __future__ import annotations


def size_in_words(size: int) -> str:
    """A number of bytes as text: "2.13 GB"."""
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if size >= 10 ** power:
            return f"{size / 10 ** power:.2f} {unit}"
    return f"{size} bytes"
