"""A run of a suite whose prompts name an adapter: it is recorded with the candidates, and resumed and scored as such."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness import Adapter, Objective, Prompt, Suite, run_suite, zoo
from harness.run.progress import Silent
from harness.session.session import Session
from reports.analysis import load_run
from tests.fakes import plain_candidate, tiny_grid, tiny_suite
from tests.painted import paint_runs
from tests.race.painted import session_options


@pytest.fixture(autouse=True)
def painted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    paint_runs(monkeypatch)
    (tmp_path / "loras").mkdir()
    shutil.copy(zoo.resolve("zoo:sketch"), tmp_path / "loras/sketch.safetensors")
    shutil.copy(zoo.resolve("zoo:sketch-word"), tmp_path / "loras/graphite.safetensors")
    monkeypatch.chdir(tmp_path)


def declared(weight: float) -> Suite:
    prompts = tuple(Prompt(id=name, text=f"a (red:1.2) {name} <lora:sketch:{weight}>") for name in ("cat", "dog"))
    return tiny_suite(candidates=(plain_candidate(), plain_candidate("base", model="zoo:base")), baseline="photo", gates=(),
                      metrics=("exposure",), objective=Objective(maximise="saturation", penalties=()),
                      grid=tiny_grid(prompts=prompts, syntax="a1111", adapter_folder="loras"))


def test_the_adapter_is_recorded_and_decides_the_images(tmp_path: Path) -> None:
    first = run_suite(declared(0.8), progress=False)
    assert not first.failures
    read = load_run(tmp_path / "runs/tiny")
    assert {c.adapters for c in read.suite.candidates} == {(Adapter(path="loras/sketch.safetensors", weight=0.8),)}
    assert set(read.images["text"]) == {"a red cat", "a red dog"}
    assert set(run_suite(declared(0.8), progress=False).images["sample"]) == set(first.images["sample"])
    assert set(run_suite(declared(0.5), progress=False).images["sample"]).isdisjoint(first.images["sample"])


def test_a_session_points_out_an_ordinary_word_that_is_taken_for_an_inversion(tmp_path: Path) -> None:
    prompts = tuple(Prompt(id=name, text=f"a graphite {name}") for name in ("cat", "dog"))
    named = replace(declared(1), grid=replace(declared(1).grid, prompts=prompts))
    suite = Session(session_options(tmp_path), Silent()).add(named, "s.py")
    assert suite is not None
    assert suite.suite.candidates[0].adapters == (Adapter(path="loras/graphite.safetensors"),)
    assert ["'graphite' is the name of the textual inversion" in remark for remark in suite.remarks()] == [True]
