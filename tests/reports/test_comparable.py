"""One rule for comparable runs: which settings must agree for values and for costs, and what is said where they do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.declare import Gate, Suite
from harness.records.signed_json import signed_text
from reports.comparable import LAST_BITS, MACHINE, Measured, costs_otherwise, last_bits, measured_otherwise, sampled_otherwise
from reports.compare.runs import compare
from reports.gates import judge
from reports.read.promoted_values import read_promoted
from reports.read.run import Run, load_run
from reports.trend.series import read_trend
from reports.verdict.recommendation import Recommendation
from tests.reports import synthetic
from tests.reports.read.test_baseline import baseline_file

SAMPLING = {"sampler": "ddim", "steps": 20, "width": 64, "height": 64, "batch_size": 8, "device": "cpu", "version": 2}
ENVIRONMENT = {"device": "cuda:0", "device_name": "H100", "cpu": "EPYC", "cuda": "12.4", "packages": {"torch": "2.9"}}
OTHERS = {"sampler": "euler", "steps": 21, "width": 65, "height": 65, "batch_size": 4, "device": "cuda", "version": 3}


def test_the_same_conditions_differ_in_nothing() -> None:
    assert sampled_otherwise(SAMPLING, SAMPLING) == last_bits(SAMPLING, SAMPLING) == ""
    assert costs_otherwise((ENVIRONMENT, SAMPLING), (ENVIRONMENT, SAMPLING)) == ""


@pytest.mark.parametrize("name", SAMPLING)
def test_a_setting_is_named_with_both_values_where_it_matters(name: str) -> None:
    other = {**SAMPLING, name: OTHERS[name]}
    said = f"{name.replace('_', ' ')} {SAMPLING[name]} and {OTHERS[name]}"
    assert sampled_otherwise(SAMPLING, other) == ("" if name in LAST_BITS else said)
    assert last_bits(SAMPLING, other) == (said if name in LAST_BITS else "")


def test_a_setting_that_only_one_of_them_has_is_a_difference() -> None:
    assert sampled_otherwise(SAMPLING, {**SAMPLING, "eta": 0.5}) == "eta not stated and 0.5"


@pytest.mark.parametrize("name", MACHINE)
def test_costs_need_the_same_machine_and_torch(name: str) -> None:
    other = {**ENVIRONMENT, "packages": {"torch": "2.10"}} if name == "packages.torch" else {**ENVIRONMENT, name: "other"}
    assert "other" in costs_otherwise((ENVIRONMENT, SAMPLING), (other, SAMPLING)) or "2.9 and 2.10" in costs_otherwise(
        (ENVIRONMENT, SAMPLING), (other, SAMPLING))


@pytest.mark.parametrize(("runtimes", "said"), [
    (["onnxruntime"], "onnxruntime 1.31 and 1.32"), ([{"unet": "eager", "vae": "onnxruntime_live"}], "onnxruntime 1.31 and 1.32"),
    (["eager"], ""), (["openvino", "compiled"], ""), (["mine:ROW"], ""), ([], "")])
def test_costs_need_the_same_versions_of_what_executes_the_candidates(runtimes: list[Any], said: str) -> None:
    then, now = ({**ENVIRONMENT, "packages": {"torch": "2.9", "onnxruntime": version}} for version in ("1.31", "1.32"))
    now["packages"]["tensorrt-cu13"] = "not installed"  # which earlier versions did not ask for
    assert costs_otherwise((then, SAMPLING), (now, SAMPLING), runtimes) == said


def test_costs_need_images_of_the_same_work_and_not_the_same_number_of_a_device() -> None:
    longer, second = {**SAMPLING, "steps": 30}, {**ENVIRONMENT, "device": "cuda:1"}
    assert costs_otherwise((ENVIRONMENT, SAMPLING), (ENVIRONMENT, longer)) == "steps 20 and 30"
    assert costs_otherwise((ENVIRONMENT, SAMPLING), (second, SAMPLING)) == ""


@pytest.mark.parametrize(("change", "said"), [
    ({"versions": (2,)}, "version 1 and 2 of psnr"), ({"setting": "x"}, "setting of psnr"),
    ({"reference": {"key": "other"}}, "another baseline candidate"), ({"reference": {}}, "another baseline candidate"),
    ({"reference": {"key": "k", "identity": "i"}}, "")])
def test_a_paired_value_needs_its_version_its_setting_and_its_reference(change: dict[str, Any], said: str) -> None:
    before = Measured(metric="psnr", versions=(1,), paired=True, reference={"key": "k"})
    why = measured_otherwise(before, replace(before, **change))
    assert (said in why, bool(why)) == (True, bool(said))


def test_an_unpaired_value_has_no_reference_to_differ_in() -> None:
    before = Measured(metric="exposure", versions=(1,), reference={"key": "k"})
    assert measured_otherwise(before, replace(before, reference={"key": "other"})) == ""


SUITE = synthetic.merge_suite(grid=replace(synthetic.SMALL, seeds=(1, 2)))


@pytest.mark.parametrize("name", [name for name in SAMPLING if name != "version"])
def test_gates_comparisons_and_trends_agree_on_what_is_comparable(name: str, tmp_path: Path,
                                                                  merge_verdict: Recommendation) -> None:
    """One run, and one like it but for one setting: as another run, and as a baseline file."""
    first = synthetic.write_run(tmp_path / "a", SUITE)
    changed = {**synthetic.sampling(SUITE), name: OTHERS[name]}
    grid = {} if name == "device" else {name: OTHERS[name]}
    suite = replace(SUITE, grid=replace(SUITE.grid, **grid)) if name != "device" else SUITE
    second = synthetic.write_run(tmp_path / "b", suite, started="2026-02-02T00:00:00Z")
    if name == "device":  # its images' keys say so too
        text = (second / "run.json").read_text().replace('"device": "cpu", "version"', '"device": "cuda", "version"')
        (second / "run.json").write_text(text)
    a, b = load_run(first), load_run(second)
    assert name == "device" or b.head["sampling"] == changed
    expected = name in LAST_BITS
    assert ("" not in compare(a, b).refused) == expected
    trend = read_trend([first, second])
    assert (not trend.changed(1)) == expected
    (tmp_path / "a" / "baseline.json").write_text(signed_text(baseline_file(a, sampling=changed)), encoding="utf-8")
    assert _gate_compares(replace(a, promoted=read_promoted(tmp_path / "a")), merge_verdict) == expected


@pytest.fixture
def pictured(tmp_path: Path) -> Callable[..., Run]:
    """A run of candidates with controls; `pictures` are the contents that differ from the usual ones."""
    def write(name: str, suite: Suite | None = None, **pictures: str) -> Run:
        suite = suite or synthetic.controlled_suite()
        contents = {file: pictures.get(prompt.id, f"content of {file}") for prompt in suite.grid.prompts
                    for file in prompt.pictures.values()}
        head = {"pictures": contents} if any(candidate.controls for candidate in suite.candidates) else {}
        return load_run(synthetic.write_run(tmp_path / name, suite, started=f"2026-01-0{len(name)}T00:00:00Z", **head))
    return write


def test_a_prompt_whose_picture_is_another_one_is_not_the_same_prompt(pictured: Callable[..., Run]) -> None:
    """Its text and the name of the file are the same."""
    a, same, other = pictured("a"), pictured("aa"), pictured("aaa", p01="other")
    assert [change.identical for change in compare(a, same).candidates] == [8, 8]
    compared = compare(a, other)
    assert {row.difference.prompts for row in compared.moved if row.value == "clip_score"} == {3}
    assert "1 prompt with the same identifier and another picture: left out." in compared.notes
    assert [(change.common, change.identical) for change in compared.candidates] == [(6, 6)] * 2
    trend = read_trend([run.folder for run in (a, same, other)])
    assert [trend.changed(at, "clip_score") for at in (1, 2)] == [[], ["pictures"]]


def test_no_prompt_is_the_same_where_every_picture_is_another_one(pictured: Callable[..., Run]) -> None:
    other = {f"p{number:02d}": "other" for number in range(4)}
    assert "pictures in use" in compare(pictured("a"), pictured("aa", **other)).refused[""]


def test_a_picture_that_one_run_alone_uses_leaves_the_prompts_the_same(pictured: Callable[..., Run]) -> None:
    suite = synthetic.controlled_suite()
    plain = replace(suite, candidates=tuple(replace(candidate, controls=()) for candidate in suite.candidates))
    compared = compare(pictured("a", plain), pictured("aa"))
    assert {row.difference.prompts for row in compared.moved if row.value == "clip_score"} == {4}


def _gate_compares(run: Run, rec: Recommendation) -> bool:
    gate = Gate(value="clip_score", not_worse_than="promoted", margin=99, candidates=("alpha=0.45",))
    found = judge(replace(run, suite=replace(run.suite, gates=(gate,))), replace(rec, guidance=3.0))[0]
    return found.status != "not_measured"
