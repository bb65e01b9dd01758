"""A text in parts that fit the context of a CLIP model, as ids of its tokenizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

_END_OF_WORD: Final = "</w>"


def in_parts(tokenizer: Any, text: str) -> list[list[int]] | None:
    """The ids of each part with the marks of start and end, padded with 0 to the context. The parts are about equally long, and a
    word is cut only where it fills a part by itself. None for a tokenizer that does not tell how long a text is."""
    if not hasattr(tokenizer, "encode"):
        return None
    context = int(tokenizer([""]).shape[-1])
    start, end = tokenizer.sot_token_id, tokenizer.eot_token_id
    parts = split(tokenizer.encode(text), context - 2, [_ends_word(tokenizer, token) for token in tokenizer.encode(text)])
    return [[start, *part, end] + [0] * (context - 2 - len(part)) for part in parts]


def split(tokens: Sequence[int], room: int, ends: Sequence[bool]) -> list[list[int]]:
    """The tokens in parts of at most `room`; `ends` says of which a word ends. At least one part, which may be empty."""
    parts, begin = [], 0
    while len(tokens) - begin > room:
        left = len(tokens) - begin
        size = math.ceil(left / math.ceil(left / room))
        cut = next((place for place in range(begin + size, begin, -1) if ends[place - 1]), begin + size)
        parts.append([*tokens[begin:cut]])
        begin = cut
    return [*parts, [*tokens[begin:]]]


def _ends_word(tokenizer: Any, token: int) -> bool:
    return str(tokenizer.decoder.get(token, _END_OF_WORD)).endswith(_END_OF_WORD)
