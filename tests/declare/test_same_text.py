"""Which prompts are one question under several identifiers."""

import pytest

from harness.declare import Prompt
from harness.declare.same_text import distinct, first_of_text, same_texts


@pytest.mark.parametrize(("one", "other", "same"), [
    (("a red ball", ""), ("a red ball", ""), True),
    (("a red ball", ""), (" a  red\tball\n", " "), True),
    (("a red ball", ""), ("A Red Ball", ""), True),
    (("a caf\u00e9", ""), ("a cafe\u0301", ""), True),
    (("a red ball", "blurry"), ("a red ball", "BLURRY "), True),
    (("a red ball", ""), ("a red ball", "blurry"), False),
    (("a red ball", ""), ("a red ball.", ""), False),
    (("a redball", ""), ("a red ball", ""), False)])
def test_texts_are_the_same_where_the_encoder_reads_the_same(one: tuple[str, str], other: tuple[str, str], same: bool) -> None:
    prompts = [Prompt(id=name, text=text, negative=negative) for name, (text, negative) in (("p", one), ("q", other))]
    assert first_of_text(prompts) == {"p": "p", "q": "p" if same else "q"}
    assert same_texts(prompts) == ([("p", "q")] if same else [])
    assert distinct(prompts) == (1 if same else 2)
