"""Prompts may write either word of a textual inversion: the one within the file, or the file's name."""

from types import SimpleNamespace

import pytest
import torch

from harness.declare import Prompt
from harness.declare.syntax import plain_text
from harness.sampling.text import encode
from harness.text import Treatment, Word
from harness.text.two_words import as_written

STYLE = Word(component="text_encoder", token="<toy>", vectors=torch.ones(1, 4), file_word="cat")
OTHER = Word(component="text_encoder", token="<dog>", vectors=torch.ones(1, 4), file_word="cat")
NAMED = Word(component="text_encoder", token="cat", vectors=torch.ones(1, 4))


@pytest.mark.parametrize(("texts", "word"), [
    (["a <toy> on a mat", "a mat"], "<toy>"), (["a cat on a mat", "a mat"], "cat"), (["a Cat"], "cat"), (["a mat"], "<toy>"),
    (["a cat beside a <toy>"], "<toy>"), (["concatenated"], "<toy>")])
def test_a_word_is_spelled_as_the_texts_write_it(texts, word):
    assert [w.token for w in as_written(Treatment(words=(STYLE,)), texts).words] == [word]


@pytest.mark.parametrize(("words", "texts", "says"), [
    ((STYLE,), ["a <toy>", "a cat"], "both words"), ((STYLE, OTHER), ["a cat"], "two textual inversions"),
    ((STYLE, NAMED), ["a cat"], "two textual inversions")])
def test_a_clash_is_refused(words, texts, says):
    with pytest.raises(ValueError, match=says):
        as_written(Treatment(words=words), texts)


def test_files_of_one_name_are_two_words_while_no_text_writes_the_name():
    assert [w.token for w in as_written(Treatment(words=(STYLE, OTHER)), ["a <toy> and a <dog>"]).words] == ["<toy>", "<dog>"]


def test_a_prompt_with_the_files_name_is_embedded_as_one_with_the_word_and_the_word_occurs(encoder):
    vectors = torch.randn(2, encoder.module.get_input_embeddings().weight.shape[1])
    words = Treatment(words=(Word(component=encoder.component, token="<toy>", vectors=vectors, file_word="blorb"),))
    pipeline = SimpleNamespace(called=None, encoders=(encoder,), device=torch.device("cpu"), controls=(),
                               references=(), own=None)

    def states(text):
        state = encode(pipeline, [Prompt(id="p", text=text)], words)
        assert "<toy>" in state.occurring
        return state.positive[plain_text(text)].states

    assert torch.equal(states("a blorb"), states("a <toy>"))
    untreated = encode(pipeline, [Prompt(id="p", text="a blorb")])
    assert not torch.equal(states("a blorb"), untreated.positive[plain_text("a blorb")].states)
