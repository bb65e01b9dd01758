"""What a grid says of all its prompts holds for those that say nothing of their own."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness import Grid, Prompt, read_prompts
from harness.check import problems
from harness.declare import plain, restore, short_hash
from tests.fakes import tiny_grid, tiny_suite

CAT, DOG = Prompt(id="cat", text="a cat"), Prompt(id="dog", text="a dog", negative="dark")


def negatives(grid: Grid) -> list[str]:
    return [prompt.negative for prompt in grid.prompts]


def test_one_negative_is_that_of_all_prompts_without_one() -> None:
    assert negatives(tiny_grid(prompts=(CAT, DOG), negative="blurry")) == ["blurry", "dark"]


def test_a_changed_grid_replaces_its_own_negative_and_no_other() -> None:
    grid = tiny_grid(prompts=(CAT, DOG), negative="blurry")
    assert negatives(replace(grid, negative="grey")) == ["grey", "dark"]
    assert negatives(replace(grid, negative="")) == ["", "dark"]
    assert negatives(tiny_grid(prompts=grid.prompts)) == ["", "dark"]


def test_images_do_not_depend_on_where_the_negative_was_declared() -> None:
    grid = tiny_grid(prompts=(CAT, DOG), negative="blurry")
    assert grid.prompts == (replace(CAT, negative="blurry"), DOG)
    assert restore(plain(grid)) == grid


def test_a_grid_that_says_nothing_has_the_hash_that_it_had() -> None:
    grid = Grid(prompts=(CAT,), seeds=(1,), guidance_scales=(4,))
    cat = {"is": "Prompt", "id": "cat", "text": "a cat", "negative": "", "split": "select", "tags": {}}
    assert short_hash(grid) == short_hash({
        "is": "Grid", "prompts": [cat], "seeds": [1], "guidance_scales": [4.0], "sampler": "dpmpp_2m", "steps": 20, "width": 512,
        "height": 512, "batch_size": 16})


def test_markup_in_the_negative_of_all_prompts_is_said_once(tmp_path: Path) -> None:
    (problem,) = problems(tiny_suite(grid=tiny_grid(negative="(blurry:1.3)")), tmp_path)
    assert "grid: negative: '(blurry:1.3)'" in problem


@pytest.mark.parametrize(("changes", "words"), [
    ({"syntax": "plane"}, ["grid: unknown syntax 'plane'", "'plain'"]),
    ({"prompts": (replace(CAT, syntax="plian"), DOG)}, ["prompt 'cat': unknown syntax 'plian'", "'plain'"])])
def test_an_unknown_syntax_is_refused_once(changes: dict[str, object], words: list[str], tmp_path: Path) -> None:
    (problem,) = problems(tiny_suite(grid=tiny_grid(**changes)), tmp_path)
    assert all(word in problem for word in words)


def test_a_file_of_prompts_can_be_read_in_a_syntax(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a cat\n")
    assert read_prompts(tmp_path / "p.txt", syntax="plain", negative="blurry") == (
        Prompt(id="a-cat", text="a cat", negative="blurry", syntax="plain"),)


@pytest.mark.parametrize("name", ["A1111", "a1111", "ComfyUI", "Plain"])
def test_a_syntax_may_be_written_in_capitals(name: str, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a cat\n")
    assert read_prompts(tmp_path / "p.txt", syntax=name)[0].syntax == name.lower()
    assert tiny_grid(prompts=(CAT,), syntax=name) == tiny_grid(prompts=(CAT,), syntax=name.lower())


def test_an_unknown_syntax_of_a_file_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a cat\na dog\n")
    with pytest.raises(ValueError, match=r"^p\.txt: unknown syntax 'a111'; did you mean 'a1111'"):
        read_prompts(tmp_path / "p.txt", syntax="a111")


@pytest.mark.parametrize(("syntaxes", "count"), [(("a1111", "a1111"), 0), (("a1111", ""), 1), (("", ""), 1)])
def test_the_negative_of_all_prompts_is_read_in_the_syntax_of_each(syntaxes: tuple[str, str], count: int, tmp_path: Path) -> None:
    prompts = tuple(replace(p, negative="", syntax=syntax) for p, syntax in zip((CAT, DOG), syntaxes, strict=True))
    assert len(problems(tiny_suite(grid=tiny_grid(prompts=prompts, negative="(blurry:1.3)")), tmp_path)) == count
