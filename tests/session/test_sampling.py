"""Candidates that are sampled each in its own way, in one suite: a few steps without guidance beside many with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import Candidate, Gate, Objective, Sampling, Suite
from harness.check import problems
from harness.declare import Budget
from harness.records import Journal, Measurement, Sample
from harness.run.progress import Silent
from harness.session.suite_session import SuiteSession
from reports import judge, load_run, recommend, write_page
from tests.fakes import tiny_grid, tiny_suite
from tests.painted import paint_runs
from tests.race.painted import session_options

FEW = Sampling(steps=1, guidance=1)


@pytest.fixture(autouse=True)
def painted(monkeypatch: pytest.MonkeyPatch) -> None:
    paint_runs(monkeypatch)


def suite(**changes: Any) -> Suite:
    plain = Candidate(name="photo", model="zoo:photo")
    values = {
        "grid": tiny_grid(guidance_scales=(4,), seeds=(1, 2)), "baseline": "photo", "metrics": ("psnr", "palette", "exposure"),
        "candidates": (plain, replace(plain, name="few", sampling=FEW), replace(plain, name="wide", sampling=Sampling(width=72))),
        "objective": Objective(maximise="saturation", penalties=()), "gates": ()}
    return tiny_suite(**{**values, **changes})


def go(root: Path, declared: Suite, **options: Any) -> SuiteSession:
    assert problems(declared, root) == []
    of = SuiteSession(declared, "s.py", session_options(root, **options), Silent())
    try:
        of.go()
    finally:
        of.close()
    assert of.failures == []
    return of


def test_each_candidate_has_the_images_of_its_own_grid_and_a_second_session_makes_none(tmp_path: Path) -> None:
    declared = suite()
    first = go(tmp_path, declared)
    assert declared.images == 30
    run = load_run(tmp_path / "runs" / "tiny")
    counts = run.images.groupby(["candidate", "guidance"]).size().to_dict()
    assert counts == {("few", 1.0): 10, ("photo", 4.0): 10, ("wide", 4.0): 10}
    assert [gap for gap in run.missing if not gap.expected] == []
    assert first.run().images_made == 30
    assert go(tmp_path, declared).run().images_made == 0


def test_the_image_keys_of_candidates_that_declare_nothing_stay_what_they_were(tmp_path: Path) -> None:
    go(tmp_path / "a", suite())
    alone = suite(candidates=suite().candidates[:1])
    go(tmp_path / "b", alone)
    keys = [{r.cell: r.key for r in Journal(tmp_path / at / "runs" / "tiny" / "journal.jsonl").read()[0]
             if isinstance(r, Sample) and r.candidate == "photo"} for at in "ab"]
    assert keys[0] == keys[1]
    assert json.loads((tmp_path / "a/runs/tiny/run.json").read_text())["sampling"] == json.loads(
        (tmp_path / "b/runs/tiny/run.json").read_text())["sampling"]


def test_one_identity_of_weights_has_other_images_for_each_sampling(tmp_path: Path) -> None:
    go(tmp_path, suite())
    run = load_run(tmp_path / "runs" / "tiny")
    assert len({weights.identity for weights in run.weights.values()}) == 1
    assert len(run.images["sample"].unique()) == 30


def test_images_beside_the_baselines_are_measured_against_them_and_others_say_why_not(tmp_path: Path) -> None:
    go(tmp_path, suite())
    run = load_run(tmp_path / "runs" / "tiny")
    records = [r for r in Journal(tmp_path / "runs/tiny/journal.jsonl").read()[0] if isinstance(r, Measurement)]
    keys = {(row.prompt, row.seed): row.sample for row in run.images[run.images["candidate"] == "photo"].itertuples()}
    few = [r for r in records if r.candidate == "few" and r.metric == "psnr"]
    assert len(few) == 10
    assert {r.reference == keys[r.cell.prompt, r.cell.seed] for r in few} == {True}
    wide = run.images[run.images["candidate"] == "wide"]
    assert wide["psnr_db"].isna().all()
    assert "72 x 64" in run.why_missing("wide", "psnr_db")
    assert wide["saturation"].notna().all()


def test_a_gate_holds_images_without_guidance_against_the_baselines_at_its_own(tmp_path: Path) -> None:
    gates = (Gate(value="clipped_share", not_worse_than="baseline", margin=0.9, candidates=("few",)),
             Gate(value="psnr_db", at_least=1, candidates=("few",)))
    go(tmp_path, suite(gates=gates))
    run = load_run(tmp_path / "runs" / "tiny")
    against, absolute = judge(run, recommend(run))
    assert (against.status, absolute.status) == ("passed", "passed")
    assert "at CFG 1, minus photo at CFG 4" in against.reason


def test_a_gate_on_one_of_several_scales_that_has_no_counterpart_is_not_measured_and_says_so(tmp_path: Path) -> None:
    gates = (Gate(value="clipped_share", not_worse_than="baseline", margin=0.9, candidates=("few",)),)
    go(tmp_path, suite(gates=gates, grid=tiny_grid(guidance_scales=(4, 7))))
    run = load_run(tmp_path / "runs" / "tiny")
    (verdict,) = judge(run, replace(recommend(run), pick="few", guidance=1.0))
    assert verdict.status == "not_measured"
    assert "CFG 4, 7" in verdict.reason


def test_the_page_shows_such_a_run(tmp_path: Path) -> None:
    go(tmp_path, suite())
    run = load_run(tmp_path / "runs" / "tiny")
    recommendation = recommend(run)
    assert recommendation.pick
    assert write_page(run, recommendation, judge(run, recommendation)).stat().st_size > 10_000


def test_a_race_asks_each_candidate_for_its_own_scales(tmp_path: Path) -> None:
    prompts = tuple(replace(p, split="select" if n < 4 else "confirm") for n, p in enumerate(tiny_grid().prompts))
    declared = suite(grid=tiny_grid(prompts=prompts, guidance_scales=(4,), seeds=(1, 2)), metrics=("psnr", "exposure"),
                     budget=Budget(first_prompts=2, step_prompts=2))
    go(tmp_path, declared)
    run = load_run(tmp_path / "runs" / "tiny")
    assert set(zip(run.images["candidate"], run.images["guidance"], strict=True)) <= {("photo", 4.0), ("few", 1.0), ("wide", 4.0)}
    assert [gap for gap in run.missing if not gap.expected] == []
    assert run.looks[-1].images == len(run.images)
    few = run.images[run.images["candidate"] == "few"]
    assert few["psnr_db"].notna().all()
