"""What a newcomer gets wrong is said once, the cause and not its consequences, with a way out that works."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import Candidate, Checkpoint, Constraint, Emphasis, Gate, Merge, Objective, Penalty, alpha_sweep
from harness.check import problems
from harness.materialise.library import checkpoint_of
from tests.fakes import tiny_suite

TWO_METRICS = {"metrics": ("clip_score", "exposure"), "objective": Objective(penalties=()), "gates": ()}


def said(root: Path, **changes: object) -> list[str]:
    return [problem.removeprefix("suite 'tiny': ") for problem in problems(tiny_suite(**changes), root)]


def test_a_mistake_of_many_candidates_is_said_once(tmp_path):
    candidates = alpha_sweep("zoo:photo", "zoo:anime", (0, 0.2, 0.4, 0.6, 0.8, 1), method="slurp")
    listed = said(tmp_path, candidates=candidates, baseline="alpha=0")
    assert [line for line in listed if "slurp" in line] == listed
    assert listed[0].startswith("candidates 'alpha=0', 'alpha=0.2', 'alpha=0.4', 'alpha=0.6' and 2 more: unknown merge method "
                                "'slurp'; did you mean 'slerp'")
    assert len(listed) == 1


def test_two_mistakes_are_said_with_the_candidates_that_each_concerns(tmp_path):
    made = [Candidate(name=name, model=Merge(a="zoo:photo", b="zoo:anime", alpha=alpha, parts=parts))
            for name, alpha, parts in (("x", 2, ("unet",)), ("y", 0.5, ("unnet",)), ("z", 2, ("unnet",)))]
    listed = said(tmp_path, candidates=made, baseline="x")
    assert [line.partition(":")[0] for line in listed] == ["candidates 'x' and 'z'", "candidates 'y' and 'z'"]


@pytest.mark.parametrize("metric", ["clip_scor", "exposur"])
def test_a_misspelt_metric_is_the_only_thing_that_is_said(metric, tmp_path):
    metrics = [metric, *({"clip_score", "palette", "exposure"} - {f"{metric}e"})]
    listed = said(tmp_path, metrics=metrics, objective=Objective(), gates=())
    assert len(listed) == 1
    assert f"unknown metric {metric!r}; did you mean '{metric}e'" in listed[0]


@pytest.mark.parametrize(("name", "words"), [
    ("clipped_share", "it is a value; give the metric that it comes from, 'exposure'"),
    ("palette_left", "it is a value; give the metric that it comes from, 'palette'"),
    ("cliped_share", "did you mean 'exposure', which gives the value 'clipped_share'"),
    ("psnrdb", "did you mean 'psnr', which gives the value 'psnr_db'"),
    ("seconds_per_image", "it is a value that needs no metric; remove it")])
def test_a_value_in_the_place_of_a_metric_names_the_metric(name, words, tmp_path):
    listed = said(tmp_path, metrics=("clip_score", name), objective=Objective(penalties=()), gates=())
    assert len(listed) == 1
    assert f"unknown metric {name!r}" in listed[0]
    assert words in listed[0]


def test_the_default_objective_says_which_metrics_it_needs_and_both_ways_out_work(tmp_path):
    listed = said(tmp_path, metrics=("clip_score",), objective=Objective(), gates=())
    assert len(listed) == 1
    assert "the default objective needs the metrics 'exposure' and 'palette'" in listed[0]
    assert "Objective(penalties=())" in listed[0]
    assert said(tmp_path, metrics=("clip_score",), objective=Objective(penalties=()), gates=()) == []
    assert said(tmp_path, metrics=("clip_score", "exposure", "palette"), objective=Objective(), gates=()) == []


@pytest.mark.parametrize(("changes", "words"), [
    ({"gates": (Gate(value="psnr_db", at_least=20),)}, "value 'psnr_db' needs the metric 'psnr'; add it to metrics"),
    ({"objective": Objective(penalties=(Penalty(metric="palette_left", weight=1),))},
     "penalty 'palette_left' needs the metric 'palette'"),
    ({"objective": Objective(penalties=(), constraints=(Constraint(metric="ssim", at_least=0.5),))}, "needs the metric 'ssim'"),
    ({"gates": (Gate(value="psnr_bd", at_least=20),)}, "unknown value 'psnr_bd'")])
def test_a_value_without_its_metric_names_the_metric(changes, words, tmp_path):
    listed = said(tmp_path, **{**TWO_METRICS, **changes})
    assert len(listed) == 1
    assert words in listed[0]


@pytest.mark.parametrize(("changes", "words"), [
    ({"gates": (Gate(value="clipped_share", at_most=5),)}, "at_most is 5; expected a share, from 0 to 1"),
    ({"gates": (Gate(value="clipped_share", at_least=-0.1),)}, "at_least is -0.1"),
    ({"gates": (Gate(value="clipped_share", at_most=1),)}, "at_most is 1, which every value keeps"),
    ({"gates": (Gate(value="saturation", at_least=0),)}, "at_least is 0, which every value keeps"),
    ({"gates": (Gate(value="failure_rate", at_most=1.0),)}, "at_most is 1, which every value keeps"),
    ({"objective": Objective(penalties=(), constraints=(Constraint(metric="saturation", at_least=0),))}, "every value keeps"),
    ({"objective": Objective(penalties=(), constraints=(Constraint(metric="clipped_share", at_most=5),))}, "at_most is 5"),
    ({"objective": Objective(penalties=(Penalty(metric="clipped_share", weight=1, allowance=5),))}, "allowance is 5")])
def test_a_limit_that_decides_nothing_is_refused(changes, words, tmp_path):
    listed = said(tmp_path, **{**TWO_METRICS, **changes})
    assert len(listed) == 1
    assert words in listed[0]


def test_styles_that_no_metric_uses_are_refused(tmp_path):
    styles = {"anime": "an anime drawing", "photo": "a photo"}
    assert "add 'styles' to metrics" in said(tmp_path, styles=styles)[0]
    assert said(tmp_path, styles=styles, metrics=(*tiny_suite().metrics, "styles")) == []


def test_an_emphasised_word_that_no_prompt_has_is_refused_for_all_its_candidates_at_once(tmp_path):
    word = tiny_suite().grid.prompts[0].text.split()[-1]
    emphasised = [Candidate(name=name, model="zoo:photo", emphasis=Emphasis(weights={word: 1.2, "zeppelin": weight}))
                  for name, weight in (("x", 1.1), ("y", 0.5))]
    listed = said(tmp_path, candidates=emphasised, baseline="x")
    assert len(listed) == 1
    assert listed[0].startswith("candidates 'x' and 'y': emphasis: the word 'zeppelin' is in no prompt")


def test_a_checkpoint_of_the_zoo_needs_no_config(tmp_path):
    assert checkpoint_of(Checkpoint(path="zoo:photo")) == checkpoint_of("zoo:photo")
    assert checkpoint_of(Checkpoint(path="zoo:photo", config="mine")).config == "mine"
    assert checkpoint_of(Checkpoint(path="photo.safetensors")).config is None
