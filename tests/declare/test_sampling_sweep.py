"""The sweep over ways of sampling, of a model and of candidates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness import Candidate, Sampling, alpha_sweep, sampling_sweep
from harness.check import problems, remarks
from harness.declare.keywords import after_unknown_keyword
from harness.declare.prompt_files import PICTURE_TAG
from harness.declare.swept_axis import axis_of
from tests.fakes import PROMPTS, tiny_grid, tiny_suite


def test_one_candidate_per_number_of_steps_and_sampler() -> None:
    swept = sampling_sweep("zoo:photo", steps=(4, 8), samplers=("euler", "ddim"), sampling=Sampling(guidance=1))
    assert [c.name for c in swept] == ["steps=4 sampler=euler", "steps=4 sampler=ddim", "steps=8 sampler=euler",
                                       "steps=8 sampler=ddim"]
    assert swept[1] == Candidate(name="steps=4 sampler=ddim", model="zoo:photo", axes={"steps": 4, "sampler": "ddim"},
                                 sampling=Sampling(steps=4, sampler="ddim", guidance=1))


@pytest.mark.parametrize(("given", "names", "axes"), [
    ({"steps": (4, 8)}, ["steps=4", "steps=8"], [{"steps": 4}, {"steps": 8}]),
    ({"steps": [4, 8], "samplers": "ddim"}, ["steps=4", "steps=8"], [{"steps": 4}, {"steps": 8}]),
    ({"samplers": ("ddim", "euler"), "steps": (4,)}, ["sampler=ddim", "sampler=euler"],
     [{"sampler": "ddim"}, {"sampler": "euler"}]),
    ({"steps": (4,)}, ["model"], [{}])])
def test_what_has_one_value_is_in_neither_names_nor_axes(given, names, axes) -> None:
    swept = sampling_sweep(Path("zoo:photo"), **given)
    assert ([c.name for c in swept], [dict(c.axes) for c in swept]) == (names, axes)


def test_candidates_are_sampled_each_in_every_way_and_keep_what_they_say_themselves() -> None:
    alphas = alpha_sweep("zoo:photo", "zoo:anime", (0, 0.5), precision="fp16")
    swept = sampling_sweep(alphas, steps=(1, 2))
    assert [c.name for c in swept] == ["alpha=0 steps=1", "alpha=0 steps=2", "alpha=0.5 steps=1", "alpha=0.5 steps=2"]
    assert swept[3].axes == {"alpha": 0.5, "steps": 2}
    assert {c.precision for c in swept} == {"fp16"}
    assert (swept[3].model, swept[3].sampling) == (alphas[1].model, Sampling(steps=2))
    own = Candidate(name="few", model="zoo:photo", sampling=Sampling(guidance=1, steps=9))
    assert sampling_sweep(own, steps=(1, 2))[0].sampling == Sampling(guidance=1, steps=1)


@pytest.mark.parametrize(("given", "words"), [
    ({}, "steps=(4, 8, 12)"), ({"steps": (4,), "sampling": Sampling(steps=3)}, "steps is 3 in sampling"),
    ({"samplers": ("ddim",), "sampling": Sampling(sampler="euler")}, "sampler is 'euler'")])
def test_what_is_said_twice_or_not_at_all_is_refused(given, words) -> None:
    with pytest.raises(ValueError, match="sampling_sweep") as refused:
        sampling_sweep("zoo:photo", **given)
    assert words in str(refused.value)


def test_an_axis_is_swept_once_and_only_candidates_are_taken() -> None:
    twice = sampling_sweep("zoo:photo", steps=(1, 2))
    with pytest.raises(ValueError, match="the axis 'steps' already"):
        sampling_sweep(twice, steps=(1, 2))
    with pytest.raises(ValueError, match="one of them is 3"):
        sampling_sweep([3], steps=(1, 2))
    with pytest.raises(ValueError, match="precision is for a model"):
        sampling_sweep(twice, samplers=("ddim", "euler"), precision="fp16")


def test_a_suite_of_it_may_run_and_sweeps_the_steps(tmp_path: Path) -> None:
    swept = sampling_sweep("zoo:photo", steps=(1, 2), samplers=("euler", "ddim"))
    suite = tiny_suite(candidates=swept, baseline="steps=2 sampler=euler")
    assert problems(suite, tmp_path) == []
    assert axis_of(suite) == "steps"
    wrong = sampling_sweep("zoo:photo", steps=(0, 2), samplers=("euler", "dim"))
    said = problems(tiny_suite(candidates=wrong, baseline=wrong[0].name), tmp_path)
    assert any("steps is 0" in sentence for sentence in said)
    assert any("'ddim'" in sentence for sentence in said)


def test_an_unknown_keyword_of_the_sweep_is_answered_with_the_nearest() -> None:
    with pytest.raises(TypeError) as refused:
        sampling_sweep("zoo:photo", sampler=("ddim",))  # type: ignore[call-arg]
    assert "'samplers'" in after_unknown_keyword(refused.value)


def test_what_a_picture_says_of_its_steps_is_used_where_a_candidate_is_sampled_so() -> None:
    pictured = tuple(replace(prompt, tags={PICTURE_TAG: "a.png", "steps": "9"}) for prompt in PROMPTS)
    ways = [sampling_sweep("zoo:photo", steps=steps) for steps in ((1, 2), (1, 9))]
    said = [remarks(tiny_suite(candidates=way, baseline="steps=1", grid=tiny_grid(prompts=pictured))) for way in ways]
    assert any("steps 9" in sentence for sentence in said[0])
    assert not any("steps 9" in sentence for sentence in said[1])
