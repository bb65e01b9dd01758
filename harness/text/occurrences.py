"""Where words and phrases occur in a text, by the same rules for textual inversions and for weights."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_LETTER: Final = r"[^\W_]"
"""A letter or a digit. The underscore counts as punctuation, as in CLIP's tokenizer."""


@dataclass(frozen=True, kw_only=True)
class Occurrence:
    """`key` occurs at text[start:end]."""

    key: str
    start: int
    end: int


def composed(text: str) -> str:
    """The text in Unicode's composed form (NFC), which CLIP's tokenizer also uses."""
    return unicodedata.normalize("NFC", text)


def occurrences(keys: Iterable[str], text: str) -> list[Occurrence]:
    """Every occurrence of the keys in a composed text, from left to right and without overlaps; the longest key wins.

    Case is ignored: CLIP lower-cases, and A1111 compares token ids. All white space is equivalent. A key that begins or ends
    with a letter or digit must do so at a word boundary: "sks" is not in "sks2" or "asks", but it is in "(sks)", "sks," and
    "sks_style". (A1111 does find "sks" in "sks2", because CLIP makes each digit a separate token; that would confuse a word
    with its numbered variants.) Raises ValueError for an empty key and for two keys that are equal by these rules.
    """
    patterns: dict[str, str] = {}
    for key in keys:
        parts = composed(key).split()
        if not parts:
            raise ValueError(f"{key!r} is not a word; expected text that can appear in a prompt")
        # Not casefold(), which also makes "ss" of the German sharp s; a regular expression ignores case letter by letter.
        plain = " ".join(parts).lower()
        if plain in patterns:
            raise ValueError(f"{key!r} and {patterns[plain]!r} are the same word in a prompt; keep one of them")
        patterns[plain] = key
    if not patterns:
        return []
    longest_first = sorted(patterns, key=lambda plain: (-len(plain), plain))
    matches = re.finditer("|".join(f"({_pattern(plain)})" for plain in longest_first), text, re.IGNORECASE)
    return [Occurrence(key=patterns[longest_first[(match.lastindex or 1) - 1]], start=match.start(), end=match.end())
            for match in matches]


def _pattern(plain: str) -> str:
    before = f"(?<!{_LETTER})" if plain[0].isalnum() else ""
    after = f"(?!{_LETTER})" if plain[-1].isalnum() else ""
    return before + r"\s+".join(re.escape(part) for part in plain.split(" ")) + after
