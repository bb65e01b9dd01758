"""Adapters that prompts and the texts of stages name act in every stage that reads them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import Adapter, Candidate, Prompt, Suite, zoo
from harness.check import problems, remarks, with_prompt_adapters
from harness.declare import Stage
from harness.materialise import Workbench
from tests.fakes import tiny_grid, tiny_suite

SKETCH, GRAPHITE = Adapter(path="loras/sketch.safetensors", weight=0.8), Adapter(path="loras/graphite.safetensors")
WEAKER = replace(SKETCH, weight=0.3)
TAG = "a cat <lora:sketch:0.8>"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "loras").mkdir()
    shutil.copy(zoo.resolve("zoo:sketch"), tmp_path / SKETCH.path)
    shutil.copy(zoo.resolve("zoo:sketch-word"), tmp_path / GRAPHITE.path)
    return tmp_path


def staged(text: str, *, negative: str = "", syntax: str = "a1111", stage_negative: str | None = None,
           **stage: Any) -> Suite:
    prompts = (Prompt(id="p", text=text, negative=negative),)
    candidate = Candidate(name="x", model="zoo:photo", stages=(Stage(strength=0.5, negative=stage_negative, **stage),))
    return tiny_suite(candidates=(candidate,), baseline="x",
                      grid=tiny_grid(steps=8, prompts=prompts, syntax=syntax, adapter_folder="loras"))


@pytest.mark.parametrize(("suite", "first", "later"), [
    (staged(TAG), (SKETCH,), (SKETCH,)),
    (staged(TAG, model="zoo:anime", prompt="{prompt}, night"), (SKETCH,), (SKETCH,)),
    (staged(TAG, prompt="night"), (SKETCH,), ()),
    (staged(TAG, adapters=(WEAKER,)), (SKETCH,), (WEAKER,)),
    (staged("a graphite cat"), (GRAPHITE,), (GRAPHITE,)),
    (staged("a graphite cat", prompt="night"), (GRAPHITE,), ()),
    (staged("a cat", prompt="{prompt}, graphite"), (), (GRAPHITE,)),
    (staged("a cat", prompt="{prompt}, [night:graphite:2]"), (), (GRAPHITE,)),
    (staged("a cat", negative="graphite"), (GRAPHITE,), (GRAPHITE,)),
    (staged("a cat", negative="graphite", stage_negative="dark"), (GRAPHITE,), ()),
    (staged("a cat", stage_negative="graphite"), (), (GRAPHITE,)),
    (staged("a graphite cat", adapters=(GRAPHITE,)), (GRAPHITE,), (GRAPHITE,)),
    (staged("a cat", syntax="comfyui", prompt="{prompt}, embedding:graphite"), (), (GRAPHITE,)),
    (staged("a cat", syntax="comfyui", prompt="{prompt}, graphite"), (), ())])
def test_an_adapter_acts_in_the_stages_whose_texts_name_it(suite: Suite, first: tuple[Adapter, ...], later: tuple[Adapter, ...],
                                                           root: Path) -> None:
    assert problems(suite, root) == []
    resolved = with_prompt_adapters(suite, root)
    (candidate,) = resolved.candidates
    assert (candidate.adapters, candidate.stages[0].adapters) == (first, later)
    assert with_prompt_adapters(resolved, root) == resolved


@pytest.mark.parametrize(("suite", "words"), [
    (staged("a cat", syntax="comfyui", prompt="embedding:graphit"), ["stage 2", "embedding:graphit", "'graphite'"]),
    (staged("a cat", prompt="{prompt} <lora:sketch:1>"), ["stage 2", "'sketch'", "Stage(adapters=...)"])])
def test_a_name_that_a_stage_cannot_have_is_refused_once(suite: Suite, words: list[str], root: Path) -> None:
    (problem,) = problems(suite, root)
    assert [word for word in words if word not in problem] == []


@pytest.mark.parametrize(("prompt", "words"), [
    ("{prompt}, graphite", ["stage 2", "'graphite'", "takes the place of the word"]),
    ("{prompt}, graphites", ["stage 2", "'graphites'", "did you mean the textual inversion 'graphite'"]),
    ("{prompt}, easynegative", ["stage 2", "'easynegative'", "adapter_folder"])])
def test_doubtful_names_in_the_texts_of_a_stage_are_pointed_out(prompt: str, words: list[str], root: Path) -> None:
    (remark,) = remarks(staged("a cat", prompt=prompt), root)
    assert [word for word in words if word not in remark] == []


def test_the_coverage_of_a_later_stage_has_the_inversion_that_its_text_names(root: Path) -> None:
    suite = with_prompt_adapters(staged("a cat", prompt="{prompt}, graphite"), root)
    prepared = Workbench.for_grid(suite.grid, device="cpu", root=root).prepare(suite.candidates[0])
    rows = [row for row in prepared.coverage if "graphite" in row.stage]
    assert rows
    assert all(row.stage.startswith("stage 2: ") for row in rows)
