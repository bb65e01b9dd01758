"""Texts with markup are embedded as their tool does it: weights, sections, chunks, and inversions by the name of their file."""

import pytest
import torch

from harness.declare.syntax import Text, parse
from harness.text import Treatment, Word, embed
from harness.text.chunks import Piece, by_words
from harness.text.tokens import in_chunks
from harness.text.treatment import PLAIN
from tests.text.conftest import WIDTH


def text(written: str, syntax: str = "a1111") -> Text:
    (span,) = parse(written, syntax).spans(5)
    return span.text


def states(encoder, written, syntax="a1111", treatment=PLAIN):
    return embed(encoder, text(written, syntax), treatment).states


@pytest.mark.parametrize("syntax", ["a1111", "comfyui"])
def test_a_text_without_markup_has_the_bits_of_a_plain_one(encoder, syntax):
    for written in ("a red ball, on grass", "", "word " * 100):
        assert torch.equal(states(encoder, written, syntax)[:77], embed(encoder, written).states[:77])


@pytest.mark.parametrize("syntax", ["a1111", "comfyui"])
@pytest.mark.parametrize("written", ["a (red:1.3) ball", r"a \(big\) (red:1.3) ball"])
def test_weights_are_those_of_the_tools_own_method(encoder, syntax, written):
    plain = text(written, syntax).words
    assert torch.equal(states(encoder, written, syntax),
                       embed(encoder, plain, Treatment(weights={"red": 1.3}, method=syntax)).states)


def test_a_weighted_part_of_a_word_is_a_word_of_its_own(encoder):
    (layout,) = in_chunks(encoder, text("(un:1.2)happy"), PLAIN)
    apart = [in_chunks(encoder, part, PLAIN)[0].ids for part in ("un", "happy")]
    ends = [ids.index(49407) for ids in apart]
    assert layout.ids[1:sum(ends) - 1] == (*apart[0][1:ends[0]], *apart[1][1:ends[1]])


@pytest.mark.parametrize(("written", "sections"), [
    ("a cat BREAK a dog", ["a cat", "a dog"]), ("a cat BREAK", ["a cat"]), ("BREAK a cat", ["", "a cat"]),
    ("a BREAK BREAK b", ["a", "", "b"])])
def test_break_begins_a_chunk(encoder, written, sections):
    assert torch.equal(states(encoder, written), torch.cat([embed(encoder, part).states for part in sections]))


def test_break_does_not_go_back_to_a_comma(encoder):
    assert torch.equal(states(encoder, "word " * 70 + ", a BREAK b"), torch.cat([
        embed(encoder, "word " * 70 + ", a").states, embed(encoder, "b").states]))


INVERSION = Word(component="text_encoder", token="<sks>", vectors=torch.full((2, WIDTH), 0.1), file_word="bad-hands")


@pytest.mark.parametrize(("syntax", "written"), [("a1111", "a bad-hands, (bad-hands:1.0)"), ("comfyui", "a embedding:bad-hands")])
def test_an_inversion_goes_by_the_name_of_its_file(encoder, syntax, written):
    made = embed(encoder, text(written, syntax), Treatment(words=(INVERSION,)))
    assert made.occurring == {"<sks>"}
    assert not torch.equal(made.states, states(encoder, written, syntax))


@pytest.mark.parametrize(("syntax", "written"), [("a1111", "a <sks>"), ("comfyui", "a bad-hands"), ("comfyui", "a <sks>")])
def test_other_words_for_it_are_text_to_the_tool(encoder, syntax, written):
    assert embed(encoder, text(written, syntax), Treatment(words=(INVERSION,))).occurring == frozenset()


@pytest.mark.parametrize(("lengths", "expected"), [
    ([3, 3], [[3, 3]]), ([70, 5], [[70, 5]]), ([70, 6], [[70], [6]]), ([70, 7, 1], [[70], [7, 1]]), ([70, 8], [[70, 5], [3]]),
    ([75, 1], [[75], [1]]), ([160], [[75], [75], [10]]), ([74, 160], [[74, 1], [75], [75], [9]])])
def test_comfyui_keeps_words_of_fewer_than_eight_tokens_whole(lengths, expected):
    pieces = [Piece(id=0, start=0, end=0, unit=(0, number, False))
              for number, length in enumerate(lengths) for _ in range(length)]
    chunks = [[sum(piece.unit[1] == number for piece in chunk) for number in range(len(lengths))]
              for chunk in by_words(pieces, 75)]
    assert [[count for count in chunk if count] for chunk in chunks] == expected


def test_comfyui_does_not_go_back_to_a_comma(encoder):
    written = "word " * 70 + ", " + "cat " * 9
    assert [layout.ids.index(49407) - 1 for layout in in_chunks(encoder, text(written, "comfyui"), PLAIN)] == [75, 5]
    assert [layout.ids.index(49407) - 1 for layout in in_chunks(encoder, text(written), PLAIN)] == [71, 9]
