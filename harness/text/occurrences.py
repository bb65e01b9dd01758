"""Where words and phrases occur in a text, by the same rules for textual inversions and for weights."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_LETTER: Final = r"[^\W_]"
"""A letter or a digit. The underscore is punctuation here, as CLIP's tokenizer has it."""


@dataclass(frozen=True, kw_only=True)
class Occurrence:
    """`key` stands at text[start:end]."""

    key: str
    start: int
    end: int


def composed(text: str) -> str:
    """The text in Unicode's composed form, the first thing that CLIP's tokenizer does as well."""
    return unicodedata.normalize("NFC", text)


def occurrences(keys: Iterable[str], text: str) -> list[Occurrence]:
    """Every occurrence of the keys in a composed text, from left to right and without overlaps; the longest key wins.

    Case does not count: CLIP lower-cases, and A1111 compares token ids and so does not see it either. White space is as
    good as any other. Where a key begins or ends with a letter or a digit it must do so at the edge of a word: "sks" is not
    in "sks2" or "asks", but it is in "(sks)", "sks," and "sks_style". (A1111 does find "sks" in "sks2", as CLIP makes each
    digit a token of its own; that would confuse a word with its numbered brothers.) ValueError for an empty key and for two
    that are the same by these rules.
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
