"""How a text that is longer than its encoder is divided into chunks, as the tools do it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from harness.text.treatment import Word

BACKTRACK: Final = 20
"""A1111's "comma padding": a chunk that is full ends after its last comma, if at most so many tokens then go to the next one."""


LARGE: Final = 8
"""ComfyUI's "max_word_length": a word of so many tokens may be divided."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A token's id and its position in the text; or the vector with index `row` of a word. `comma` says that the token is a comma
    alone; pieces of one `unit` are one word between spaces."""

    id: int
    start: int
    end: int
    word: Word | None = None
    row: int = 0
    weight: float = 1.0
    comma: bool = False
    unit: tuple[int, int, bool] = (0, 0, False)


def by_commas(pieces: Sequence[Piece], room: int) -> list[list[Piece]]:
    """Chunks of at most `room` tokens, as A1111 makes them: where a chunk is full and its last comma is among its last BACKTRACK
    tokens, what follows the comma begins the next chunk. The vectors of a word stay together where they fit into one. A text that
    fits is one chunk, and so is an empty one."""
    chunks: list[list[Piece]] = [[]]
    last_comma: int | None = None
    for block in _blocks(pieces):
        chunk = chunks[-1]
        is_full = len(chunk) == room
        if block[0].comma and not is_full:
            last_comma = len(chunk)
        elif is_full and not block[0].comma and last_comma is not None and room - last_comma <= BACKTRACK:
            chunks.append(chunk[last_comma + 1:])
            del chunk[last_comma + 1:]
            last_comma = None
        if len(chunks[-1]) + len(block) > room and chunks[-1]:
            chunks.append([])
            last_comma = None
        chunks[-1] += block
        while len(chunks[-1]) > room:  # more vectors than any chunk can hold
            chunks.append(chunks[-1][room:])
            del chunks[-2][room:]
    return chunks


def by_words(pieces: Sequence[Piece], room: int) -> list[list[Piece]]:
    """Chunks of at most `room` tokens, as ComfyUI makes them: a word between spaces of fewer than LARGE tokens stays whole, and a
    larger one fills the chunk up. A text that fits is one chunk, and so is an empty one."""
    chunks: list[list[Piece]] = [[]]
    for _, group in groupby(pieces, key=lambda piece: piece.unit):
        word = list(group)
        is_large = len(word) >= LARGE
        while len(chunks[-1]) + len(word) > room:
            left = room - len(chunks[-1]) if is_large or not chunks[-1] else 0
            chunks[-1] += word[:left]
            word = word[left:]
            chunks.append([])
        chunks[-1] += word
    return chunks


def _blocks(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Single tokens, and all vectors of an occurrence of a word together."""
    for word, group in groupby(pieces, key=lambda piece: (piece.word is not None, piece.start if piece.word else 0)):
        block = list(group)
        yield from [block] if word[0] else ([piece] for piece in block)
