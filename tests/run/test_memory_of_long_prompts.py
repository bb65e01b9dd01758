"""The plan of memory counts the chunks of long prompts, and the texts of all steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import Prompt
from harness.materialise import Workbench
from harness.materialise.shape_model import shape_model
from harness.run.memory_plan import Footprint, Need
from tests.fakes import plain_candidate, tiny_grid

WORDS = "a red ball on the green grass, a blue car, "


def need(root: Path, *prompts: Prompt) -> Need:
    grid = tiny_grid(prompts=prompts, steps=4)
    return Footprint(shape_model(plain_candidate(), Workbench.for_grid(grid, device="cpu", root=root)), grid, "cpu").need(2)


@pytest.mark.parametrize(("text", "syntax"), [(WORDS * 4, ""), ("a cat BREAK a dog BREAK a bird", "a1111")])
def test_more_chunks_take_more_memory_at_every_step(text: str, syntax: str, tmp_path: Path) -> None:
    short, long = need(tmp_path, Prompt(id="p", text="a cat")), need(tmp_path, Prompt(id="p", text=text, syntax=syntax))
    assert long.step > short.step
    assert long.texts > short.texts
    assert long.weights == short.weights


def test_every_text_of_a_schedule_is_kept(tmp_path: Path) -> None:
    one, two = (need(tmp_path, Prompt(id="p", text=text, syntax="a1111")) for text in ("a cat", "[a cat|a dog]"))
    assert two.texts > one.texts
