"""ComfyUI's syntax: (word) counts 1.1 times, (word:1.3) exactly 1.3 times, and embedding:name names a textual inversion.

https://comfyanonymous.github.io/ComfyUI_examples/ and the README of ComfyUI, "Notes"
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Final

from harness.declare.listing import brief
from harness.declare.syntax.parsed import MarkupError, Parsed, Part, Text, refuse_huge_weights, unchanging

MORE: Final = 1.1
DEEPEST: Final = 50
_ESCAPED: Final = {r"\(": "\N{START OF TEXT}", r"\)": "\N{END OF TEXT}"}
"""Control characters, which no prompt may have, in the place of brackets that are text."""
_EMBEDDING: Final = re.compile(r"(?:^|(?<=\s))embedding:(?P<name>[^\s,]+)")
_SUFFIX: Final = re.compile(r"\.(?:safetensors|pt|bin)$", re.IGNORECASE)


def parse(text: str) -> Parsed:
    """A prompt in ComfyUI's syntax. Raises MarkupError for a weight that is not finite."""
    hidden = text
    for written, sign in _ESCAPED.items():
        hidden = hidden.replace(written, sign)
    parts = tuple(Part(text=_EMBEDDING.sub(_without_suffix, _shown(words)), weight=weight)
                  for words, weight in _weighted(hidden, 1.0) if words)
    refuse_huge_weights(parts)
    names = dict.fromkeys(match["name"] for part in parts for match in _EMBEDDING.finditer(part.text))
    return unchanging(Text(parts=parts or (Part(text=""),), syntax="comfyui"), embeddings=tuple(names))


def _without_suffix(match: re.Match[str]) -> str:
    return _SUFFIX.sub("", match[0])


def _weighted(text: str, weight: float, depth: int = 0) -> Iterator[tuple[str, float]]:
    """Words and weights. A number after the last colon in brackets is the weight itself, whatever stands around them."""
    if depth > DEEPEST:
        raise MarkupError(f"brackets stand more than {DEEPEST} deep in one another; remove some of them")
    for item in _items(text):
        if not (len(item) > 1 and item.startswith("(") and item.endswith(")")):
            yield item, weight
            continue
        inner, given = item[1:-1], weight * MORE
        words, colon, number = inner.rpartition(":")
        if colon and words and (read := _float(number)) is not None:
            inner, given = words, read
        yield from _weighted(inner, given, depth + 1)


def _items(text: str) -> Iterator[str]:
    """The text cut before and after each outermost pair of brackets. What is never closed is text, and so is all from a bracket
    on that closes nothing, as ComfyUI has it."""
    depth, start = 0, 0
    for place, sign in enumerate(text):
        if sign == "(":
            if depth == 0 and place > start:
                yield text[start:place]
                start = place
            depth += 1
        elif sign == ")":
            depth -= 1
            if depth == 0:
                yield text[start:place + 1]
                start = place + 1
    if start < len(text):
        yield text[start:]


def _float(written: str) -> float | None:
    try:
        weight = float(written)
    except ValueError:
        return None
    if not math.isfinite(weight):
        raise MarkupError(f"the weight {brief(written.strip(), 80)!r} is not a finite number; write one such as 1.2")
    return weight


def _shown(text: str) -> str:
    for written, sign in _ESCAPED.items():
        text = text.replace(sign, written[1:])
    return text
