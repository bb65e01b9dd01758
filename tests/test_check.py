"""Whatever can be known to be wrong with a suite is said before any work, all of it, with the nearest known name."""

from pathlib import Path

import pytest

from harness import Adapter, Candidate, Gate, Merge, Objective, Penalty, Prompt
from harness.check import problems
from tests.fakes import tiny_grid, tiny_suite


def said(tmp_path: Path, **changes: object) -> str:
    return "\n".join(problems(tiny_suite(**changes), tmp_path))


def one(**changes: object) -> dict[str, object]:
    candidate = Candidate(**{"name": "x", "model": "zoo:photo", **changes})  # type: ignore[arg-type]
    return {"candidates": (candidate,), "baseline": "x"}


def test_a_good_suite_has_no_problems(tmp_path: Path) -> None:
    assert problems(tiny_suite(), tmp_path) == []


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    text = said(tmp_path, baseline="alpha=2", metrics=("clip_scor",), grid=tiny_grid(seeds=()))
    assert "the baseline 'alpha=2'" in text
    assert "did you mean 'clip_score'" in text
    assert "seeds is empty" in text


@pytest.mark.parametrize(("changes", "expected"), [
    (one(model=Merge(a="zoo:photo", b="zoo:anime", alpha=1.5)), "alpha is 1.5; 'weighted_sum' takes 0 to 1"),
    (one(model=Merge(a="zoo:photo", b="zoo:anime", alpha=float("nan"))), "alpha is nan"),
    (one(model=Merge(a="zoo:photo", b="zoo:anime", alpha=0.5, method="weigthed_sum")), "did you mean 'weighted_sum'"),
    (one(model=Merge(a="zoo:photo", b="zoo:anime", alpha=0.5, method="add_difference")), "takes 3 models; 2 are given"),
    (one(model=Merge(a="zoo:photo", b="zoo:anime", alpha=0.5, parts=("unett",))), "unknown part 'unett'"),
    (one(model=Merge(a="zoo:photo", b="zoo:anime", alpha=0.5, missing="skip")), "unknown missing policy 'skip'"),
    (one(model="zoo:phot"), "did you mean 'zoo:photo'"),
    (one(model="models/a.safetensors"), "model file 'models/a.safetensors' does not exist"),
    (one(quantization="int8"), "unknown quantization 'int8'"),
    (one(runtime="tensorrt"), "unknown runtime 'tensorrt'"),
    (one(adapters=(Adapter(path="zoo:sketch", weight=float("inf")),)), "weight is inf"),
    (one(adapters=(Adapter(path="zoo:sketch"), Adapter(path="zoo:sketch"))), "adapter 'zoo:sketch' is given 2 times"),
    ({"candidates": ()}, "no candidates are declared"),
    ({"name": "../up"}, "the name '../up' names a folder"),
    ({"grid": tiny_grid(guidance_scales=(1, 1))}, "guidance scale 1 is given 2 times"),
    ({"grid": tiny_grid(width=60)}, "width is 60; expected a multiple of 8"),
    ({"grid": tiny_grid(sampler="dpm")}, "unknown sampler 'dpm'"),
    ({"grid": tiny_grid(prompts=(Prompt(id="a", text="a", split="confirm"),))}, "no prompt is in the split 'select'"),
    ({"gates": (Gate(value="clip_score"),)}, "0 limits are given"),
    ({"gates": (Gate(value="clip_score", not_worse_than="alpha=9"),)}, "unknown candidate 'alpha=9'"),
    ({"gates": (Gate(value="lpips", at_most=1),)}, "unknown value 'lpips'"),
    ({"objective": Objective(maximise="hps")}, "unknown value 'hps'"),
    ({"objective": Objective(penalties=(Penalty(metric="clip_score", weight=-1),))}, "the weight not negative"),
])
def test_each_problem_names_what_was_given_and_what_is_known(tmp_path: Path, changes: dict[str, object], expected: str) -> None:
    assert expected in said(tmp_path, **changes)


def test_a_file_beside_the_missing_one_is_offered(tmp_path: Path) -> None:
    (tmp_path / "photo.safetensors").write_bytes(b"")
    assert "'photo.safetensors' does" in said(tmp_path, **one(model="foto.safetensors"))


def test_candidates_declared_alike_are_found(tmp_path: Path) -> None:
    twins = (Candidate(name="a", model="zoo:photo"), Candidate(name="b", model="zoo:photo"))
    assert "declared alike" in said(tmp_path, candidates=twins, baseline="a")


def test_something_else_than_a_suite_is_said(tmp_path: Path) -> None:
    assert problems({"name": "x"}, tmp_path) == ["SUITE is a dict; expected harness.Suite(...)"]
