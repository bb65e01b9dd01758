"""Which prompts are one question under several identifiers."""

import pytest

from harness.declare import Grid, Prompt
from harness.declare.same_text import distinct, effective_prompts, first_of_text, same_texts


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


def test_one_text_with_another_picture_is_another_question() -> None:
    first, *others = (Prompt(id=name, text="a fish", pictures=own) for name, own in (
        ("p", {"face": "anna.png"}), ("q", {"face": "eva.png"}), ("r", {"face": "anna.png"}), ("s", {})))
    assert first_of_text((first, *others)) == {"p": "p", "q": "q", "r": "p", "s": "s"}


@pytest.mark.parametrize(("scales", "negatives"), [((1,), ("", "")), ((1.0, 1), ("", "")), ((1, 4), ("", "")),
                                                   ((4,), ("blurry", "dark")), ((), ("blurry", "dark"))])
def test_a_negative_counts_only_where_no_scale_is_1(scales: tuple[float, ...], negatives: tuple[str, str]) -> None:
    prompts = tuple(Prompt(id=name, text="a ball", negative=name) for name in ("blurry", "dark"))
    grid = Grid(prompts=prompts, seeds=(1,), guidance_scales=scales)
    assert tuple(prompt.negative for prompt in effective_prompts(grid)) == negatives
    assert distinct(effective_prompts(grid)) == len(set(negatives))


def test_at_one_scale_a_negative_counts_if_that_scale_is_not_1() -> None:
    prompts = tuple(Prompt(id=name, text="a ball", negative=name) for name in ("blurry", "dark"))
    grid = Grid(prompts=prompts, seeds=(1,), guidance_scales=(1, 4))
    assert [distinct(effective_prompts(grid, scale)) for scale in (1, 1.0, 4)] == [1, 1, 2]
