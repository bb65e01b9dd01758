"""The recipe on the page is one that `sweetspot merge` reads, as the very model that was picked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.declare import Adapter, Alphas, Blocks, Candidate, Checkpoint, Ensemble, Fused, Gradient, Merge, Model, Relay
from harness.declare.recipe_files import read_recipe
from reports.page.pick_recipe import recipe_section
from reports.read.run import Run

INNER = Merge(a="x.safetensors", b=Checkpoint(path="y.safetensors", ema=True), alpha=0.25, method="slerp")
MODELS: list[Model] = [
    Merge(a="a.safetensors", b="b.safetensors", alpha=0),
    Merge(a=INNER, b="b", c="c", alpha=Blocks(preset="GRAD_V", base=0.1), settings={"density": 0.2}, parts=("unet", "vae"),
          take={"vae": "v"}, force=("ema",)),
    Merge(a="a", b="b", more=("m", INNER), weights=(1, 2, 3), alpha=Gradient(values=(0, 1))),
    Merge(a="a", b="b", alpha=Alphas(default=Blocks(values=[0.5] * 26), parts={"vae": 0}, keys={"unet.z*": 1, "unet.a*": 0})),
    Fused(model="a", adapters=(Adapter(path="l", weight=0.5, blocks=Alphas(default=1, parts={"text_encoder": 0})),))]


def section(run: Run, candidate: Candidate) -> dict[str, str] | None:
    suite = replace(run.suite, candidates=(candidate,), baseline=candidate.name)
    return recipe_section(replace(run, suite=suite), candidate.name)


@pytest.mark.parametrize("model", MODELS)
def test_the_recipe_is_read_back_as_the_model_that_was_picked(merge_run: Run, model: Model, tmp_path: Path) -> None:
    found = section(merge_run, Candidate(name="it", model=model))
    assert found is not None
    (tmp_path / "recipe.json").write_text(found["text"], encoding="utf-8")
    assert read_recipe(tmp_path / "recipe.json") == model


def test_adapters_of_the_pick_are_fused_in(merge_run: Run, tmp_path: Path) -> None:
    adapters = (Adapter(path="ink.safetensors", weight=0.5),)
    found = section(merge_run, Candidate(name="it", model="zoo:base", adapters=adapters))
    assert found is not None
    (tmp_path / "recipe.json").write_text(found["text"], encoding="utf-8")
    assert read_recipe(tmp_path / "recipe.json") == Fused(model="zoo:base", adapters=adapters)


def test_what_a_file_cannot_hold_is_said(merge_run: Run) -> None:
    late = (Adapter(path="ink.safetensors", start=0.5),)
    found = section(merge_run, Candidate(name="it", model=INNER, adapters=late, quantization="int8_weight_only"))
    assert found is not None
    assert "cannot be fused" in found["notes"]
    assert "int8_weight_only is made of it when it is loaded" in found["notes"]


@pytest.mark.parametrize("model", [Relay(models=("a", "b"), at=(0.5,)), Ensemble(models=("a", INNER), weights=(0.5, 0.5))])
def test_a_recipe_of_several_models_is_shown_and_not_offered_to_merge(merge_run: Run, model: Model) -> None:
    found = section(merge_run, Candidate(name="it", model=model))
    assert found is not None
    assert json.loads(found["text"])["is"] == type(model).__name__
    assert (found["one_file"], "no single file" in found["notes"]) == ("", True)


def test_fields_that_are_as_usual_are_left_out(merge_run: Run) -> None:
    found = section(merge_run, Candidate(name="it", model=MODELS[0]))
    assert found is not None
    assert json.loads(found["text"]) == {"is": "Merge", "a": "a.safetensors", "b": "b.safetensors", "alpha": 0.0}


@pytest.mark.parametrize("model", ["zoo:base", Checkpoint(path="zoo:base")])
def test_a_plain_checkpoint_has_no_recipe(merge_run: Run, model: Model) -> None:
    assert section(merge_run, Candidate(name="it", model=model)) is None
    assert recipe_section(merge_run, None) is None
