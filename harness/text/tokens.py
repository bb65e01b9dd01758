"""A text as the token positions of an encoder: ids, which of them are vectors of words, weights, and what did not fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from harness.declare.syntax import PLAIN, Text, plain_text
from harness.text.chunks import Piece, by_commas, by_words
from harness.text.occurrences import Occurrence, composed, occurrences
from harness.text.treatment import Treatment, Word

if TYPE_CHECKING:
    from harness.weights.pipeline import TextEncoder

_TURN: Final = Lock()
"""A transformers tokenizer stores padding and truncation as state, so two threads cannot use it at once. One lock for all
tokenizers is enough: a call takes a fraction of a millisecond."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """All positions of one text, as many as the encoder has. `ids` are token ids; at positions in `rows`, the id is only a
    placeholder for vector `row` of `word`. `weights` are 1 for everything that is not named, and for start, end and padding.
    `dropped` is the text that does not fit, in pieces, and `dropped_tokens` the number of its tokens and vectors."""

    ids: tuple[int, ...]
    rows: tuple[tuple[int, Word, int], ...]
    weights: tuple[float, ...]
    dropped: tuple[str, ...]
    dropped_tokens: int = 0
    occurring: frozenset[str]


def lay_out(encoder: TextEncoder, text: Text | str, treatment: Treatment) -> Layout:
    """The positions of a text in one pass, of which what does not fit is cut off. Raises ValueError for words without vectors or
    of another width, and for weights that are not finite numbers.

    Without words and weights in the text the ids are those of tokenizer(text, padding="max_length", truncation=True).
    """
    reading, room = _read(encoder, as_text(text), treatment), room_for_text(encoder)
    pieces = [piece for section in reading.sections for piece in section]
    kept, cut = pieces[:room], pieces[room:]
    return replace(_layout(encoder, kept, reading.occurring), dropped=_dropped(reading.text, kept, cut), dropped_tokens=len(cut))


def in_chunks(encoder: TextEncoder, text: Text | str, treatment: Treatment, least: int = 1) -> tuple[Layout, ...]:
    """The positions of a text that is read in as many chunks as it needs, and with empty ones in at least `least`. Each chunk is
    a text of its own, with start and end. That of a plain text which fits is `lay_out`'s. Raises ValueError like it."""
    given = as_text(text)
    reading, room = _read(encoder, given, treatment), room_for_text(encoder)
    divided = by_words if given.syntax == "comfyui" else by_commas
    chunks = [chunk for section in reading.sections for chunk in divided(section, room)]
    if len(chunks) > 1 and not chunks[-1]:
        chunks.pop()  # a break at the end begins nothing
    chunks += [[] for _ in range(least - len(chunks))]
    return tuple(_layout(encoder, chunk, reading.occurring) for chunk in chunks)


def as_text(text: Text | str) -> Text:
    """A string as the plain text that it is."""
    return plain_text(text) if isinstance(text, str) else text


def room_for_text(encoder: TextEncoder) -> int:
    """How many tokens of a text the encoder reads, besides those that mark its start and end."""
    return positions_of(encoder) - sum(map(len, _frame(encoder.tokenizer)))


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """All pieces of a text, whether they fit or not, in sections that begin chunks of their own; the text without markup; and the
    words and phrases of the treatment in it."""

    sections: list[list[Piece]]
    text: str
    occurring: frozenset[str]


def _read(encoder: TextEncoder, text: Text, treatment: Treatment) -> _Reading:
    words = _named_in(text.syntax, [word for word in treatment.words if word.component == encoder.component])
    for word in words.values():
        _check(word, encoder)
    for key, weight in treatment.weights.items():
        if not math.isfinite(weight):
            raise ValueError(f"the weight of {key!r} is {weight}; expected a finite number")
    sections: list[list[Piece]] = [[]]
    occurring: set[str] = set()
    whole = ""
    for number, part in enumerate(text.parts):
        if part.breaks:
            sections.append([])
            whole += " "
        stretch = composed(part.text)
        named, weighted = occurrences(words, stretch), occurrences(treatment.weights, stretch)
        pieces = _pieces(encoder.tokenizer, stretch, [(place, words[place.key]) for place in named])
        for place in weighted:
            pieces = [replace(piece, weight=float(treatment.weights[place.key]))
                      if piece.start < place.end and place.start < piece.end else piece for piece in pieces]
        sections[-1] += [replace(piece, start=piece.start + len(whole), end=piece.end + len(whole),
                                 weight=piece.weight * part.weight, unit=_unit(number, stretch, piece)) for piece in pieces]
        whole += stretch
        occurring |= {words[place.key].token for place in named} | {place.key for place in weighted}
    return _Reading(sections=sections, text=whole, occurring=frozenset(occurring))


def _named_in(syntax: str, words: Sequence[Word]) -> dict[str, Word]:
    """The words by what stands for them in texts of a syntax: their token; in A1111 the name of the file, and in ComfyUI this
    name after "embedding:"."""
    prefix = "embedding:" if syntax == "comfyui" else ""
    named = {prefix + (word.file_word or word.token if syntax != PLAIN else word.token): word for word in words}
    if len(named) != len(words):
        raise ValueError(f"{words[0].component}: two words have the same token; rename one of them")
    return named


def _unit(part: int, text: str, piece: Piece) -> tuple[int, int, bool]:
    """What of a text ComfyUI keeps in one chunk: a word between spaces, and apart from it the vectors of an inversion."""
    before = max(text.rfind(" ", 0, piece.start + 1), text.rfind("\n", 0, piece.start + 1))
    return part, before, piece.word is not None


def _layout(encoder: TextEncoder, pieces: Sequence[Piece], occurring: frozenset[str]) -> Layout:
    """The positions of pieces that fit, between start and end, filled up with padding."""
    start, end = _frame(encoder.tokenizer)
    padding = positions_of(encoder) - len(start) - len(pieces) - len(end)
    ids = [*start, *(piece.id for piece in pieces), *end, *[encoder.tokenizer.pad_token_id] * padding]
    weights = [*[1.0] * len(start), *(piece.weight for piece in pieces), *[1.0] * (len(end) + padding)]
    rows = tuple((position, piece.word, piece.row) for position, piece in enumerate(pieces, len(start)) if piece.word)
    return Layout(ids=tuple(ids), rows=rows, weights=tuple(weights), dropped=(), occurring=occurring)


def _check(word: Word, encoder: TextEncoder) -> None:
    width = encoder.module.get_input_embeddings().weight.shape[1]
    shape = tuple(word.vectors.shape)
    if len(shape) != 2 or shape[0] == 0 or not word.vectors.is_floating_point():
        raise ValueError(f"word {word.token!r}: vectors of shape {shape} and {word.vectors.dtype}; expected (n, {width}) "
                         "floating-point numbers, n at least 1")
    if shape[1] != width:
        raise ValueError(f"word {word.token!r}: its vectors have {shape[1]} numbers, but {encoder.component} takes {width}; the "
                         "textual inversion is for another model")
    if not bool(word.vectors.isfinite().all()):
        raise ValueError(f"word {word.token!r}: its vectors contain NaN or infinity; download the textual inversion again")


def positions_of(encoder: TextEncoder) -> int:
    """Number of positions of the encoder: what it is given, or else from its tokenizer. One without a limit reports 10^30."""
    if encoder.positions is not None:
        return encoder.positions
    longest = getattr(encoder.module.config, "max_position_embeddings", None)
    declared = int(encoder.tokenizer.model_max_length)
    return declared if longest is None else min(declared, int(longest))


def _frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids before and after those of a text: start and end for CLIP, only an end for T5."""
    with _TURN:
        empty = list(tokenizer([""]).input_ids[0])
    return empty[:-1], empty[-1:]


def _pieces(tokenizer: Any, text: str, named: Sequence[tuple[Occurrence, Word]]) -> list[Piece]:
    """The tokens of the text between words, and the words' vectors in their places.

    The text between two words is tokenised separately, as tokenizers treat the text around added tokens.
    """
    edges = [0, *(edge for place, _ in named for edge in (place.start, place.end)), len(text)]
    between = list(zip(edges[::2], edges[1::2], strict=True))
    with _TURN:
        # Texts are not truncated here, because what does not fit is reported. `verbose` would log long texts as errors.
        encoded = tokenizer([text[start:end] for start, end in between], add_special_tokens=False, return_offsets_mapping=True,
                         verbose=False)
        comma = tokenizer([","], add_special_tokens=False).input_ids[0]
    placeholder = next(number for number in range(2) if number != tokenizer.eos_token_id)
    pieces = []
    for number, (start, _) in enumerate(between):
        pieces += [Piece(id=id_, start=start + first, end=start + last, comma=[id_] == comma)
                   for id_, (first, last) in zip(encoded.input_ids[number], encoded.offset_mapping[number], strict=True)]
        if number < len(named):
            place, word = named[number]
            # A small id: the first CLIP models take the position of the largest id as the end of the text.
            pieces += [Piece(id=placeholder, start=place.start, end=place.end, word=word, row=row)
                       for row in range(len(word.vectors))]
    return pieces


def _dropped(text: str, kept_pieces: Sequence[Piece], cut: Sequence[Piece]) -> tuple[str, ...]:
    """The text that was cut off: adjacent tokens are joined into one piece, and so are a word's vectors."""
    dropped: list[str] = []
    before: Piece | None = None
    begin = 0
    for piece in cut:
        if piece.word is None and before is not None and before.word is None and before.end >= piece.start:
            dropped[-1] = text[begin:piece.end]
        elif piece.word is None:
            begin = piece.start
            dropped.append(text[piece.start:piece.end])
        elif before is None or before.start != piece.start:
            count, left = len(piece.word.vectors), len(piece.word.vectors) - piece.row
            partly = bool(kept_pieces) and kept_pieces[-1].start == piece.start and kept_pieces[-1].word is not None
            dropped.append(f"{piece.word.token} (the last {left} of {count} vectors)" if partly else piece.word.token)
        before = piece
    return tuple(dropped)
