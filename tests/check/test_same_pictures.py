"""Candidates that make the same pictures under other declarations are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import AestheticGradient, Candidate, DeepCache, Emphasis, Merge, Mixed, Sampling, Suite
from harness.check import problems
from harness.check.suite import remarks
from harness.declare import Control, Ensemble, Reference, Relay, Stage
from harness.declare.component_runtimes import spelled_runtime
from tests.fakes import PROMPTS, tiny_grid, tiny_suite

EDGES = Control(path="zoo:control-edges", picture="edges", weight=0)
LOOK = Reference(path="zoo:image-prompt", picture="look", weight=0)
BOTH = ("zoo:photo", "zoo:anime")


def of(**fields: Any) -> Candidate:
    return Candidate(**{"name": "x", "model": "zoo:photo", **fields})


def suite(*candidates: Candidate) -> Suite:
    prompts = tuple(replace(prompt, pictures={"edges": "zoo:edges-fish-1", "look": "zoo:picture-fish-2"}) for prompt in PROMPTS)
    return tiny_suite(candidates=candidates, baseline=candidates[0].name, grid=tiny_grid(prompts=prompts), gates=())


def named(*candidates: Candidate) -> list[str]:
    declared = suite(*candidates)
    assert problems(declared, Path()) == []
    return [text for text in remarks(declared) if "make the same pictures" in text]


@pytest.mark.parametrize(("candidate", "reason"), [
    (of(controls=(EDGES,)), "a control of weight 0"),
    (of(references=(LOOK,)), "a reference of weight 0"),
    (of(controls=(EDGES,), references=(LOOK,)), "a reference of weight 0"),
    (of(model=Ensemble(models=BOTH, weights=(1, 0))), "weight 0 of an ensemble"),
    (of(model=Ensemble(models=("zoo:photo",) * 2, weights=(0.5, 0.5))), "an ensemble of one model"),
    (of(model=Relay(models=("zoo:photo",) * 2, at=(0.5,))), "a relay of one model"),
])
def test_what_is_not_run_makes_the_pictures_of_the_plain_model(candidate: Candidate, reason: str) -> None:
    (remark,) = named(of(name="plain"), candidate)
    assert "'plain' and 'x'" in remark
    assert reason in remark


@pytest.mark.parametrize(("one", "other"), [
    ("fp32", {"unet": "fp32"}), ("nf4", {"unet": "nf4"}), ("nf4", {"denoiser": "nf4", "vae": "fp32"}),
    ("nf4", Mixed(default="nf4")), ("nf4", Mixed(default="fp32", keys={"*": "nf4"})),
    ("nf4", Mixed(default="fp32", keys={"up_blocks.*": "int8_weight_only", "*.weight": "nf4"})),
    (Mixed(default="nf4", keys={"up_blocks.*": "fp32"}), Mixed(default="fp32", keys={"*": "nf4", "up_blocks.*": "fp32"})),
    (Mixed(default="nf4", keys={"up*": "fp32"}), {"unet": Mixed(default="nf4", keys={"mid*": "nf4", "up*": "fp32"})}),
    ({"unet": "nf4", "vae": "nf4"}, {"vae": Mixed(default="nf4"), "denoiser": Mixed(default="nf4", keys={"*": "nf4"})})])
def test_number_formats_in_two_spellings_are_one(one: Any, other: Any) -> None:
    assert named(of(name="plain", quantization=one), of(quantization=other))


@pytest.mark.parametrize(("one", "other"), [
    ("eager", {"unet": "eager"}), ("eager", {"vae": "eager"}), ("onnxruntime", {"unet": "onnxruntime"}),
    ("openvino", {"denoiser": "openvino", "vae": "eager"}), ({"vae": "openvino"}, {"denoiser": "eager", "vae": "openvino"}),
    ({"unet": "onnxruntime", "vae": "openvino"}, {"vae": "openvino", "denoiser": "onnxruntime"})])
def test_runtimes_in_two_spellings_are_one(one: Any, other: Any) -> None:
    (remark,) = named(of(name="plain", runtime=one), of(runtime=other))
    assert "runtime" in remark
    assert spelled_runtime(one) == spelled_runtime(other)


@pytest.mark.parametrize(("one", "other"), [
    ("eager", {"vae": "onnxruntime"}), ("onnxruntime", {"unet": "onnxruntime", "vae": "onnxruntime"}),
    ({"vae": "onnxruntime"}, {"vae": "openvino"}), ({"vae": "onnxruntime"}, {"text_encoder": "onnxruntime"})])
def test_runtimes_of_other_components_are_two(one: Any, other: Any) -> None:
    assert named(of(name="plain", runtime=one), of(runtime=other)) == []


@pytest.mark.parametrize(("one", "other"), [
    ("fp32", {"vae": "nf4"}), ("nf4", {"unet": "nf4", "vae": "nf4"}), ({"vae": "nf4"}, {"text_encoder": "nf4"}),
    (Mixed(default="nf4", keys={"a*": "fp32", "*b": "nf4"}), Mixed(default="nf4", keys={"*b": "nf4", "a*": "fp32"})),
    ("nf4", Mixed(default="nf4", keys={"up_blocks.*": "fp32"})), ("nf4", Mixed(default="fp32", keys={"up_blocks.*": "nf4"}))])
def test_number_formats_of_other_layers_or_components_are_two(one: Any, other: Any) -> None:
    assert named(of(name="plain", quantization=one), of(quantization=other)) == []


@pytest.mark.parametrize(("steps", "one", "other"), [
    (4, DeepCache(interval=5), DeepCache(interval=9)), (4, DeepCache(interval=4), DeepCache(interval=9)),
    (4, None, DeepCache(interval=1)), (4, None, DeepCache(interval=1, branch=1)), (1, None, DeepCache(interval=3))])
def test_step_caches_that_run_the_same_steps_whole_are_one(steps: int, one: Any, other: Any) -> None:
    sampling = Sampling(steps=steps)
    assert named(of(name="plain", step_cache=one, sampling=sampling), of(step_cache=other, sampling=sampling))


@pytest.mark.parametrize(("one", "other"), [
    (DeepCache(interval=3), DeepCache(interval=4)), (DeepCache(interval=5), DeepCache(interval=5, branch=1)),
    (None, DeepCache(interval=9))])
def test_step_caches_that_leave_out_other_layers_are_two(one: Any, other: Any) -> None:
    sampling = Sampling(steps=4)
    assert named(of(name="plain", step_cache=one, sampling=sampling), of(step_cache=other, sampling=sampling)) == []


def test_the_stage_of_the_most_steps_decides_which_caches_are_one() -> None:
    later = Stage(model="zoo:anime", strength=0.5, sampling=Sampling(steps=12))
    one, other = (of(name=str(n), sampling=Sampling(steps=4), stages=(later,), step_cache=DeepCache(interval=n)) for n in (5, 9))
    assert named(one, other) == []
    assert named(*(replace(c, stages=(replace(later, sampling=Sampling(steps=8)),)) for c in (one, other)))


@pytest.mark.parametrize("candidate", [
    of(emphasis=Emphasis(weights={"fish": 1})), of(aesthetic=AestheticGradient(path="zoo:aesthetic", weight=0)),
    of(aesthetic=AestheticGradient(path="zoo:aesthetic", steps=0))])
def test_text_treatments_that_change_nothing_are_named(candidate: Candidate) -> None:
    assert any("make the same pictures" in text for text in remarks(suite(of(name="plain"), candidate)))


def test_what_is_not_run_in_a_later_stage_counts_too() -> None:
    stage = Stage(model="zoo:anime", strength=0.5)
    assert named(of(name="plain", stages=(stage,)), of(stages=(replace(stage, controls=(EDGES,)),)))
    twice = Ensemble(models=("zoo:anime",) * 2, weights=(0.5, 0.5))
    assert named(of(name="plain", stages=(stage,)), of(stages=(replace(stage, model=twice),)))


def test_two_that_both_have_no_effect_are_named() -> None:
    assert named(of(name="one", controls=(EDGES,)), of(controls=(replace(EDGES, end=0.5),)))


@pytest.mark.parametrize("candidate", [
    of(controls=(replace(EDGES, weight=0.5),)), of(references=(replace(LOOK, weight=0.1),)),
    of(model=Ensemble(models=BOTH, weights=(0, 1))), of(model=Ensemble(models=BOTH, weights=(0.5, 0.5))),
    of(model=Relay(models=BOTH, at=(0.5,))), of(model=Merge(a="zoo:photo", b="zoo:anime", alpha=0.5), controls=(EDGES,))])
def test_what_has_an_effect_is_not_named(candidate: Candidate) -> None:
    assert named(of(name="plain"), candidate) == []
