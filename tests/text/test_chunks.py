"""Texts longer than the encoder are read in chunks, as A1111 divides them; what fits has the bits that it had."""

import pytest
import torch

from harness.text import Treatment, Word, embed
from harness.text.chunks import Piece, by_commas
from harness.text.tokens import in_chunks
from harness.text.treatment import PLAIN

ROOM = 75


def pieces(text: str) -> list[Piece]:
    """One for each character; "," is a comma, and a digit is so many vectors of one word."""
    word = Word(component="text_encoder", token="sks", vectors=torch.zeros(9, 1))
    listed: list[Piece] = []
    for place, letter in enumerate(text):
        count = int(letter) if letter.isdigit() else 1
        listed += [Piece(id=ord(letter), start=place, end=place + 1, comma=letter == ",",
                         word=word if letter.isdigit() else None, row=row) for row in range(count)]
    return listed


def written(chunks: list[list[Piece]]) -> list[str]:
    return ["".join(chr(piece.id) for piece in chunk if piece.row == 0) for chunk in chunks]


@pytest.mark.parametrize(("text", "expected"), [
    ("", [""]), ("a" * ROOM, ["a" * ROOM]), ("a" * 76, ["a" * ROOM, "a"]), ("a" * 200, ["a" * ROOM, "a" * ROOM, "a" * 50]),
    ("a" * 70 + "," + "b" * 5, ["a" * 70 + ",", "b" * 5]),  # the fifth b would be the 76th token
    ("a" * 70 + "," + "b" * 4, ["a" * 70 + "," + "b" * 4]),
    ("a" * 55 + "," + "b" * 20, ["a" * 55 + ",", "b" * 20]),  # 20 tokens back are the most
    ("a" * 54 + "," + "b" * 21, ["a" * 54 + "," + "b" * 20, "b"]),
    ("a" * 60 + "," + "b" * 5 + "," + "c" * 9, ["a" * 60 + "," + "b" * 5 + ",", "c" * 9]),  # the last comma counts
    ("a" * 74 + "," + "b", ["a" * 74 + ",", "b"]), ("a" * ROOM + "," + "b", ["a" * ROOM, ",b"]),  # a comma does not go back
    ("a" * 70 + "," + "b" * 4 + "," + "c", ["a" * 70 + "," + "b" * 4, ",c"]),
    ("a" * 70 + "," + "b" * 74 + "," + "c" * 9, ["a" * 70 + ",", "b" * 74 + ",", "c" * 9]),  # also in the second chunk
])
def test_a_full_chunk_ends_after_a_comma_that_is_near(text: str, expected: list[str]) -> None:
    assert written(by_commas(pieces(text), ROOM)) == expected


@pytest.mark.parametrize(("text", "expected"), [
    ("a" * 73 + "4" + "b", ["a" * 73, "4b"]), ("a" * 71 + "4", ["a" * 71 + "4"]), ("a" * 70 + "," + "4", ["a" * 70 + "," + "4"]),
    ("a" * 70 + ",b" + "4", ["a" * 70 + ",b", "4"])])
def test_the_vectors_of_a_word_stay_in_one_chunk(text: str, expected: list[str]) -> None:
    assert written(by_commas(pieces(text), ROOM)) == expected


def test_more_vectors_than_a_chunk_holds_go_on_in_the_next() -> None:
    word = Word(component="text_encoder", token="sks", vectors=torch.zeros(8, 1))
    vectors = [Piece(id=0, start=1, end=2, word=word, row=row) for row in range(8)]
    assert [len(chunk) for chunk in by_commas([Piece(id=1, start=0, end=1), *vectors], 3)] == [1, 3, 3, 2]


@pytest.mark.parametrize("which", ["encoder", "second"])
def test_a_long_text_is_its_chunks_one_after_another(which: str, request: pytest.FixtureRequest) -> None:
    encoder = request.getfixturevalue(which)
    first, rest = "word " * 70 + "cat,", " a blue car at night"
    made, parts = embed(encoder, first + rest), [embed(encoder, first), embed(encoder, rest)]
    assert torch.equal(made.states, torch.cat([part.states for part in parts]))
    if encoder.pooled:
        assert torch.equal(made.pooled, parts[0].pooled)


def test_weights_are_applied_chunk_by_chunk(encoder) -> None:
    first, rest = "word " * 70 + "cat,", " a blue car at night"
    weights = Treatment(weights={"blue": 1.3})
    expected = torch.cat([embed(encoder, first).states, embed(encoder, rest, weights).states])
    assert torch.equal(embed(encoder, first + rest, weights).states, expected)


def test_a_text_gets_the_empty_chunks_that_another_encoder_needs(encoder) -> None:
    assert torch.equal(embed(encoder, "cat", chunks=2).states, torch.cat([embed(encoder, t).states for t in ("cat", "")]))
    assert len(in_chunks(encoder, "word " * 151, PLAIN, 2)) == 3


def test_a_comma_within_other_signs_ends_no_chunk(encoder) -> None:
    for text, lengths in (("word " * 70 + "cat , " + "dog " * 5, (72, 5)), ("word " * 70 + "cat ,( " + "dog " * 5, (75, 3))):
        ends = [layout.ids.index(49407) - 1 for layout in in_chunks(encoder, text, PLAIN)]
        assert tuple(ends) == lengths
