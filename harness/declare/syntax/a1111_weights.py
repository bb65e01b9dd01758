"""Weights of words in AUTOMATIC1111's syntax: (word) counts 1.1 times, [word] as much less, (word:1.3) 1.3 times; BREAK.

https://github.com/AUTOMATIC1111/stable-diffusion-webui/wiki/Features#attentionemphasis
"""

from __future__ import annotations

import math
import re
from typing import Final

from harness.declare.listing import brief
from harness.declare.syntax.parsed import MarkupError, Part, refuse_huge_weights

MORE: Final = 1.1
LESS: Final = 1 / 1.1
_SIGN: Final = re.compile(r"\\(?P<literal>[()\[\]\\])?|(?P<opens>[(\[])|:\s*(?P<weight>[+-]?[.\d]+)\s*\)|(?P<closes>[)\]])")
_BREAK: Final = re.compile(r"(?:(?<!\s)\s+)?\bBREAK\b\s*")
"""With the white space around it, which is begun at its first character alone: long white space would take quadratic time."""


def weighted_parts(text: str) -> tuple[Part, ...]:
    """The parts of a text, neighbours of one weight as one. Brackets that are never closed reach to its end, and brackets that
    close nothing are text. Raises MarkupError for a weight that is not a number, and for BREAK within brackets."""
    pieces: list[tuple[str, float]] = []
    open_at: dict[str, list[int]] = {"(": [], "[": []}
    end = 0

    def close(kind: str, factor: float) -> None:
        start = open_at[kind].pop()
        pieces[start:] = [(words, weight * factor) for words, weight in pieces[start:]]

    for sign in _SIGN.finditer(text):
        if end < sign.start():
            pieces.append((text[end:sign.start()], 1.0))
        end = sign.end()
        if sign["opens"]:
            open_at[sign["opens"]].append(len(pieces))
        elif sign["weight"] and open_at["("]:
            close("(", _number(sign["weight"]))
        elif sign["closes"] == ")" and open_at["("]:
            close("(", MORE)
        elif sign["closes"] == "]" and open_at["["]:
            close("[", LESS)
        else:
            # An escaped bracket is itself; a backslash before anything else is left out.
            pieces.append((sign["literal"] or ("" if sign[0] == "\\" else sign[0]), 1.0))
    pieces.append((text[end:], 1.0))
    for kind, factor in (("(", MORE), ("[", LESS)):
        while open_at[kind]:
            close(kind, factor)
    parts = _joined(pieces)
    refuse_huge_weights(parts)
    return parts


def _joined(pieces: list[tuple[str, float]]) -> tuple[Part, ...]:
    parts: list[Part] = []
    for words, weight in pieces:
        for number, stretch in enumerate(_BREAK.split(words)):
            if number and weight != 1:
                raise MarkupError("BREAK within brackets is read by A1111 as a word of negative weight; close the brackets "
                                    "before it")
            if parts and not number and parts[-1].weight == weight:
                parts[-1] = Part(text=parts[-1].text + stretch, weight=weight, breaks=parts[-1].breaks)
            elif stretch or number:
                parts.append(Part(text=stretch, weight=weight, breaks=bool(number)))
    return tuple(parts) or (Part(text=""),)


def _number(written: str) -> float:
    try:
        weight = float(written)
    except ValueError:
        raise MarkupError(f"the weight {brief(written, 80)!r} is not a number; write one such as 1.2") from None
    if not math.isfinite(weight):
        raise MarkupError(f"the weight {brief(written, 80)!r} is not a finite number; write one such as 1.2")
    return weight
