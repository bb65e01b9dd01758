"""The plan of memory counts the chunks of long prompts, the texts of all steps, and the steps that take the most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import Candidate, Prompt, Sampling
from harness.materialise import Workbench
from harness.materialise.shape_model import shape_model
from harness.run.memory_plan import Footprint, Need, planned
from tests.fakes import plain_candidate, tiny_grid, tiny_suite

WORDS = "a red ball on the green grass, a blue car, "


def need(root: Path, *prompts: Prompt, **changes: Any) -> Need:
    grid = tiny_grid(prompts=prompts, steps=4, **changes)
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


@pytest.mark.parametrize("span", [{"guidance_start": 0.5}, {"guidance_end": 0.5}, {"guidance_start": 0.25, "guidance_end": 0.75}])
def test_guidance_at_some_of_the_steps_takes_what_guidance_takes(span: dict[str, float], tmp_path: Path) -> None:
    prompt = Prompt(id="p", text="a cat")
    scale: dict[str, Any] = {"guidance_scales": (4,)}
    whole, part = need(tmp_path, prompt, **scale), need(tmp_path, prompt, sampling=Sampling(**span), **scale)
    assert part == whole
    assert whole.step > need(tmp_path, prompt, guidance_scales=(1,)).step


@pytest.mark.parametrize(("text", "rows"), [("[a cat:a dog:3]", 2), ("a cat", 1)])
def test_candidates_of_more_steps_keep_the_texts_of_these_steps(text: str, rows: int, tmp_path: Path) -> None:
    few, many = (Candidate(name=f"{steps}", model="zoo:photo", sampling=Sampling(steps=steps)) for steps in (2, 6))
    grid = tiny_grid(prompts=(Prompt(id="p", text=text, syntax="a1111"),))
    suite = tiny_suite(candidates=(few, many), baseline="2", grid=grid)
    needs = planned(suite, suite.candidates, Workbench.for_grid(grid, device="cpu", root=tmp_path))
    assert len(needs) == rows
    texts = [row.footprint.need(2).texts for row in needs if isinstance(row.footprint, Footprint)]
    assert len(set(texts)) == rows
