"""The candidate that another spelling of its name means comes first among those that are offered."""

import pytest

from harness.declare.candidate_names import hint

SWEPT = ("steps=4 sampler=dpmpp_2m", "steps=4 sampler=DPM++ 2M Karras", "steps=8 sampler=DPM++ 2M Karras",
         "steps=8 sampler=euler")


@pytest.mark.parametrize(("name", "known", "meant"), [
    ("steps=4 sampler=dpmpp_2m_karras", SWEPT, "steps=4 sampler=DPM++ 2M Karras"),
    ("sampler=dpmpp_2m karras steps=8", SWEPT, "steps=8 sampler=DPM++ 2M Karras"),
    ("Steps=8 Sampler=Euler", SWEPT, "steps=8 sampler=euler"),
    ("alpha=0.50", ("alpha=0.05", "alpha=0.5"), "alpha=0.5"),
    ("alpha=.05", ("alpha=0.5", "alpha=0.05"), "alpha=0.05"),
    ("weight=1.0 epoch=4", ("epoch=4 weight=0.1", "epoch=4 weight=1"), "epoch=4 weight=1"),
    ("strength 0.4", ("strength=0.4", "strength=0.5"), "strength=0.4"),
    ("strength 0.4", ("strength=0.4 control=1", "strength=0.5 control=1"), "strength=0.4 control=1"),
    ("control=1 strength=.4", ("strength=0.4 control=1 alpha=1", "strength=0.4 control=0"), "strength=0.4 control=1 alpha=1"),
    ("Night", ("light", "night"), "night")])
def test_a_name_of_the_same_meaning_is_offered(name: str, known: tuple[str, ...], meant: str) -> None:
    assert hint(name, known).startswith(f"did you mean {meant!r}?")


def test_without_one_the_similar_names_are_offered() -> None:
    assert "did you mean 'alpha=0.5'" in hint("alpha=0.55", ("alpha=0.5", "alpha=1"))


def test_a_value_that_several_candidates_have_means_none_of_them() -> None:
    known = ("strength=0.4 control=1", "strength=0.4 control=0")
    assert not hint("strength 0.4", known).startswith(f"did you mean {known[0]!r}? Known")


def test_a_name_of_megabytes_takes_no_time() -> None:
    assert "known" in hint("a=" * 1_000_000, ("alpha=0.5",)).casefold()
