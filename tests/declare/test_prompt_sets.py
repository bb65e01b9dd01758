"""The built-in prompts are prompts as a suite wants them: of every kind in both splits, short, and without anybody's markup."""

from collections import Counter
from pathlib import Path

import pytest

from harness import Candidate, Grid, Suite, prompt_set
from harness.check import problems, remarks

KINDS = ("portrait", "hands", "text", "landscape", "product", "anime", "night", "crowd", "animal", "food", "architecture",
         "interior")


def test_every_kind_has_two_prompts_in_each_split() -> None:
    assert Counter((prompt.tags["kind"], prompt.split) for prompt in prompt_set()) == {
        (kind, split): 2 for kind in KINDS for split in ("select", "confirm")}


def test_kinds_are_taken_by_name() -> None:
    assert {prompt.tags["kind"] for prompt in prompt_set("night", "food")} == {"night", "food"}
    with pytest.raises(ValueError, match=r"unknown kind of prompts 'portrat'.*'portrait'"):
        prompt_set("portrat")


@pytest.mark.parametrize("count", range(1, 49))
def test_a_count_is_spread_over_kinds_and_splits(count: int) -> None:
    prompts = prompt_set(count=count)
    by_kind, by_split = Counter(prompt.tags["kind"] for prompt in prompts), Counter(prompt.split for prompt in prompts)
    assert len(prompts) == count
    assert max(by_kind.values()) - min(by_kind[kind] for kind in KINDS) <= 1
    assert abs(by_split["select"] - by_split["confirm"]) <= 1
    assert {prompt.id for prompt in prompts} <= {prompt.id for prompt in prompt_set(count=min(48, count + 1))}


@pytest.mark.parametrize("count", [0, -1, 49, 2.0, True])
def test_a_count_that_is_not_to_be_had_is_refused(count: object) -> None:
    with pytest.raises(ValueError, match=r"expected an integer from 1 to 48"):
        prompt_set(count=count)


def test_a_suite_with_all_of_them_is_sound(tmp_path: Path) -> None:
    grid = Grid(prompts=prompt_set(), seeds=(0,), guidance_scales=(7,))
    suite = Suite(name="s", candidates=(Candidate(name="a", model="zoo:photo"),), baseline="a", grid=grid)
    assert (problems(suite, tmp_path), remarks(suite)) == ([], [])


def test_every_prompt_leaves_room_in_one_chunk_of_clip() -> None:
    from open_clip.tokenizer import SimpleTokenizer

    encode = SimpleTokenizer().encode
    assert {prompt.id: size for prompt in prompt_set() if (size := len(encode(prompt.text))) > 40} == {}
