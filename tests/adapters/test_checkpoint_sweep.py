"""Which file of a training: every trainer's names and headers, the order, and what one sweep may not mix."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from harness import Budget, Candidate, Checkpoint, Merge, Objective, adapter_files, checkpoint_sweep, zoo
from harness.check import problems
from tests.fakes import tiny_suite

KOHYA = {"ss_session_id": "17", "ss_output_name": "style", "ss_num_epochs": "10", "ss_max_train_steps": "1000"}
AI_TOOLKIT = {"name": "style", "software": json.dumps({"name": "ai-toolkit"})}


def kohya(epoch: int, step: int) -> dict[str, str]:
    return {**KOHYA, "ss_epoch": str(epoch), "ss_steps": str(step)}


def write(folder: Path, files: Mapping[str, Mapping[str, str]], width: int = 768) -> list[str]:
    """A LoRA of one module for text of this width under each name, with its header."""
    module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = {f"{module}.lora_down.weight": np.zeros((1, width), np.float16),
               f"{module}.lora_up.weight": np.zeros((4, 1), np.float16)}
    for name, header in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / name, metadata=dict(header) or None)
    return [str(folder / name) for name in files]


TRAINERS: Mapping[str, tuple[str, Mapping[str, Mapping[str, str]], Sequence[str]]] = {
    # pattern, files in the order of training, names of the candidates at weight 1
    "kohya, epochs": ("style*.safetensors", {
        "style-000009.safetensors": kohya(9, 900), "style-000010.safetensors": kohya(10, 1000),
        "style.safetensors": kohya(11, 1100)}, ("step=900", "step=1000", "step=1100")),
    "kohya, steps": ("style*.safetensors", {
        "style-step00000500.safetensors": kohya(4, 500), "style-step00001000.safetensors": kohya(9, 1000),
        "style.safetensors": kohya(10, 1100)}, ("step=500", "step=1000", "step=1100")),
    "kohya, only epochs in the header": ("style*.safetensors", {
        "style-000002.safetensors": {"ss_epoch": "2"}, "style.safetensors": {"ss_epoch": "3"}}, ("epoch=2", "epoch=3")),
    "kohya without metadata": ("style-*.safetensors", {
        "style-000002.safetensors": {}, "style-000010.safetensors": {}}, ("epoch=2", "epoch=10")),
    "AI-Toolkit": ("style*.safetensors", {
        "style_000000500.safetensors": {}, "style_000001000.safetensors": {},
        "style.safetensors": AI_TOOLKIT | {"training_info": json.dumps({"step": 2000, "epoch": 8})}},
        ("step=500", "step=1000", "step=2000")),
    "OneTrainer": ("save/*.safetensors", {
        "save/fox2026-01-02_03-04-05-save-90-3-0.safetensors": {"ot_config": "{}"},
        "save/fox2026-01-02_04-04-05-save-100-3-10.safetensors": {"ot_config": "{}"}}, ("step=90", "step=100")),
    "diffusers": ("checkpoint-*/pytorch_lora_weights.safetensors", {
        "checkpoint-500/pytorch_lora_weights.safetensors": {}, "checkpoint-1000/pytorch_lora_weights.safetensors": {}},
        ("step=500", "step=1000")),
    "SimpleTuner, by folder": ("checkpoint-*", {
        "checkpoint-90/pytorch_lora_weights.safetensors": {}, "checkpoint-100/pytorch_lora_weights.safetensors": {}},
        ("step=90", "step=100")),
    "diffusion-pipe": ("epoch*/adapter_model.safetensors", {
        "epoch7/adapter_model.safetensors": {}, "epoch10/adapter_model.safetensors": {}}, ("epoch=7", "epoch=10")),
    "DiffSynth, epochs": ("epoch-*.safetensors", {
        "epoch-0.safetensors": {}, "epoch-9.safetensors": {}, "epoch-10.safetensors": {}}, ("epoch=0", "epoch=9", "epoch=10")),
    "DiffSynth, steps": ("step-*.safetensors", {
        "step-500.safetensors": {}, "step-1000.safetensors": {}}, ("step=500", "step=1000")),
}


@pytest.mark.parametrize("trainer", TRAINERS)
def test_the_files_of_every_trainer_are_numbered_in_the_order_of_training(trainer: str, tmp_path: Path) -> None:
    pattern, files, names = TRAINERS[trainer]
    paths = write(tmp_path, files)
    alone, *made = checkpoint_sweep("zoo:photo", tmp_path / pattern, (1,))
    assert [c.name for c in made] == [f"{name} weight=1" for name in names]
    assert [c.adapters[0].path for c in made] == paths
    assert not alone.adapters


@pytest.mark.parametrize("trainer", TRAINERS)
def test_given_as_a_list_in_any_order_they_are_the_same(trainer: str, tmp_path: Path) -> None:
    pattern, files, _ = TRAINERS[trainer]
    paths = write(tmp_path, files)
    assert checkpoint_sweep("zoo:photo", paths[::-1]) == checkpoint_sweep("zoo:photo", tmp_path / pattern)


def test_steps_and_weights_are_crossed_and_the_model_alone_is_the_baseline(tmp_path: Path) -> None:
    write(tmp_path, {"a-step00000009.safetensors": {}, "a-step00000010.safetensors": {}})
    made = checkpoint_sweep("zoo:photo", tmp_path / "a-*.safetensors", (0, 0.6, 1), precision="fp32")
    assert [c.name for c in made] == ["weight=0", "step=9 weight=0.6", "step=9 weight=1",
                                      "step=10 weight=0.6", "step=10 weight=1"]
    assert [c.axes for c in made[:2]] == [{"step": 9, "weight": 0.0}, {"step": 9, "weight": 0.6}]
    assert {c.precision for c in made} == {"fp32"}


def test_kohyas_last_file_without_metadata_takes_the_number_that_is_given(tmp_path: Path) -> None:
    write(tmp_path, {"style.safetensors": {}, "style-000002.safetensors": {}, "style-000004.safetensors": {}})
    pattern = tmp_path / "style*.safetensors"
    with pytest.raises(ValueError, match=r"style.safetensors' says after how many .* give last="):
        checkpoint_sweep("zoo:photo", pattern)
    assert [c.axes["epoch"] for c in checkpoint_sweep("zoo:photo", pattern, (1,), last=6)[1:]] == [2, 4, 6]
    with pytest.raises(ValueError, match=r"last is 3, but .*style-000004.* expected a higher number"):
        checkpoint_sweep("zoo:photo", pattern, last=3)
    with pytest.raises(ValueError, match="remove last"):
        checkpoint_sweep("zoo:photo", tmp_path / "style-*.safetensors", last=6)


MIXTURES: Mapping[str, tuple[Mapping[str, Mapping[str, str]], str]] = {
    "two sessions": ({"style-000001.safetensors": kohya(1, 100),
                      "style-000002.safetensors": kohya(2, 200) | {"ss_session_id": "18"}},
                     r"style-000001.*style-000002.*two training sessions.*'17' and '18'"),
    "two output names": ({"style-000001.safetensors": kohya(1, 100),
                          "style-000002.safetensors": kohya(2, 200) | {"ss_output_name": "face"}}, "'style' and 'face'"),
    "two names": ({"face-000001.safetensors": {}, "style-000002.safetensors": {}}, "face-000001.*style-000002.*two names"),
    "equal steps": ({"style-000001.safetensors": kohya(1, 100), "style-step00000100.safetensors": kohya(1, 100)},
                    r"style-000001.*style-step00000100.* both of step 100"),
    "steps and epochs": ({"style-000001.safetensors": {}, "style-step00000100.safetensors": {}},
                         "style-step00000100.* by its step, 100, and .*style-000001.* by its epoch, 1"),
    "no number": ({"style.safetensors": {}, "style-final.safetensors": {}}, "two names"),
}


@pytest.mark.parametrize("mixture", MIXTURES)
def test_files_that_one_sweep_may_not_mix_are_refused_by_name(mixture: str, tmp_path: Path) -> None:
    files, message = MIXTURES[mixture]
    write(tmp_path, files)
    with pytest.raises(ValueError, match=message):
        checkpoint_sweep("zoo:photo", tmp_path / "*.safetensors")


def test_the_way_out_of_a_mixture_works(tmp_path: Path) -> None:
    write(tmp_path, MIXTURES["two sessions"][0])
    with pytest.raises(ValueError, match="number them yourself") as refused:
        checkpoint_sweep("zoo:photo", tmp_path / "*.safetensors")
    advice = str(refused.value).split("number them yourself: ")[1]
    assert len(eval(advice, {"adapter_files": adapter_files, "model": "zoo:photo"})) == 2


def test_what_matches_no_file_is_refused_with_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, {"stile-000001.safetensors": {}})
    with pytest.raises(ValueError, match=r"style-.*matches no file.*the folder has stile-000001"):
        checkpoint_sweep("zoo:photo", tmp_path / "style-*.safetensors")
    with pytest.raises(ValueError, match="the list of files is empty"):
        checkpoint_sweep("zoo:photo", [])


def test_adapters_of_another_family_than_the_model_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"xl-000001.safetensors": {}, "xl-000002.safetensors": {}}, width=2048)
    for model in ("zoo:photo", Checkpoint(path="zoo:photo"), Merge(a="zoo:photo", b="zoo:anime", alpha=0.5)):
        with pytest.raises(ValueError, match=r"xl-000001.*for Stable Diffusion XL, but 'zoo:photo' is a model of the family sd1"):
            checkpoint_sweep(model, tmp_path / "xl-*.safetensors")


def test_adapters_without_a_model_and_models_as_adapters_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"style-000001.safetensors": {}})
    with pytest.raises(ValueError, match="is an adapter for Stable Diffusion 1; give the model"):
        checkpoint_sweep(tmp_path / "*.safetensors")
    models(tmp_path)
    with pytest.raises(ValueError, match=r"model-000004.* is a whole model \(sd1\), not an adapter"):
        checkpoint_sweep("zoo:photo", tmp_path / "model-*.safetensors")


def models(folder: Path) -> None:
    for number in (4, 10):
        (folder / f"model-{number:06d}.safetensors").symlink_to(zoo.resolve("zoo:base").absolute())


def test_whole_models_are_swept_along_one_axis(tmp_path: Path) -> None:
    models(tmp_path)
    made = checkpoint_sweep(tmp_path / "model-*.safetensors")
    assert [(c.name, c.axes) for c in made] == [("epoch=4", {"epoch": 4}), ("epoch=10", {"epoch": 10})]
    assert checkpoint_sweep(None, str(tmp_path / "model-*.safetensors")) == made


def test_a_header_that_lies_or_is_damaged_leaves_the_name(tmp_path: Path) -> None:
    write(tmp_path, {"a-000001.safetensors": {"ss_steps": "9" * 5000, "training_info": "[" * 10_000},
                     "a-000002.safetensors": {"ss_steps": "-3", "training_info": '{"step": true}'}})
    (tmp_path / "a-000003.safetensors").write_bytes(b"\xff" * 100)
    assert [c.axes["epoch"] for c in checkpoint_sweep("zoo:photo", tmp_path / "a-*.safetensors", (1,))] == [1, 1, 2, 3]


def swept(tmp_path: Path) -> tuple[Candidate, ...]:
    write(tmp_path, {f"a-step{step:08d}.safetensors": {} for step in (100, 200, 300)})
    return checkpoint_sweep("zoo:photo", tmp_path / "a-*.safetensors", (0.5, 1))


def test_a_budget_cannot_refine_steps_because_nothing_is_between_two_files(tmp_path: Path) -> None:
    suite = tiny_suite(candidates=swept(tmp_path), baseline="weight=0", budget=Budget(refine="step", first_prompts=2))
    assert any("refine is 'step', but no candidate can be added between any two" in text for text in problems(suite, tmp_path))


def test_the_earliest_of_the_tied_may_be_preferred_beside_the_weight(tmp_path: Path) -> None:
    for axis in ("step", "weight"):
        suite = tiny_suite(candidates=swept(tmp_path), baseline="weight=0",
                           objective=Objective(prefer={"guidance": "lowest", axis: "lowest"}))
        assert problems(suite, tmp_path) == []
