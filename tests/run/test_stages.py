"""A run of candidates of several stages: keys, coverage, costs, resuming, and what is refused before the first image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import Adapter, Candidate, Checkpoint, Merge, Sampling, Suite, alpha_sweep, zoo
from harness.declare import Stage
from harness.materialise import Workbench
from harness.promotion.errors import PromotionError
from harness.promotion.export import as_one_file
from harness.records import Finished
from harness.run.preflight import file_problems
from harness.run.suite_run import Options, SuiteRun
from harness.samplers import candidate_work, image_work
from reports.read.run import load_run
from tests.fakes import PROMPTS, tiny_grid, tiny_suite

GRID = tiny_grid(steps=4, prompts=PROMPTS[:1], guidance_scales=(4,))
ANIME = Stage(model="zoo:anime", strength=0.5)


def two(name: str = "two", *stages: Stage, **fields: Any) -> Candidate:
    return Candidate(name=name, stages=stages or (ANIME,), **{"model": "zoo:photo", **fields})


def suite_of(*candidates: Candidate, **changes: Any) -> Suite:
    return tiny_suite(**{"name": "staged", "candidates": candidates, "baseline": candidates[0].name, "grid": GRID, "gates": (),
                         "metrics": ("exposure",), "latency_rounds": 1, **changes})


class Quiet:
    """A progress that shows nothing."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_: None


def run_of(suite: Suite, folder: Path, cache: str = "") -> SuiteRun:
    return SuiteRun(suite, "", Options(root=folder, runs=folder / "runs", cache=cache), Quiet())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    folder = tmp_path_factory.mktemp("staged")
    suite = suite_of(Candidate(name="photo", model="zoo:photo"), two(),
                     two("hires", Stage(strength=0.5, sampling=Sampling(width=128, height=128),
                                        adapters=(Adapter(path="zoo:sketch"),))))
    run = run_of(suite, folder)
    try:
        assert run.preflight() == []
        results = [run.candidate(candidate) for candidate in suite.candidates]
        assert all(isinstance(result, Finished) for result in results), results
        assert run.costs([c.name for c in suite.candidates]) == []
    finally:
        run.close()
    return folder, results


def test_a_run_of_stages_covers_every_stage_and_times_them_apart(finished: tuple[Path, list[Any]]) -> None:
    run = load_run(finished[0] / "runs" / "staged")
    rows = {(row.candidate, row.stage) for row in run.coverage}
    assert {("two", "merge"), ("two", "stage 2: merge"), ("hires", "stage 2: adapter zoo:sketch")} <= rows
    assert ("photo", "stage 2: merge") not in rows
    journal = (finished[0] / "runs" / "staged" / "journal.jsonl").read_text()
    assert all(f'"{name}"' in journal for name in ("stage 2 text", "stage 2 begin", "stage 2 denoise"))


def test_nothing_of_a_finished_run_is_made_again(finished: tuple[Path, list[Any]]) -> None:
    folder, _ = finished
    run = run_of(suite_of(Candidate(name="photo", model="zoo:photo"), two()), folder)
    try:
        results = [run.candidate(candidate) for candidate in run.suite.candidates]
    finally:
        run.close()
    assert [(result.sampled, result.reused) for result in results] == [(0, 1), (0, 1)]  # type: ignore[union-attr]


@pytest.mark.parametrize("other", [
    replace(ANIME, strength=0.75), replace(ANIME, prompt="{prompt}, night"), replace(ANIME, negative="day"),
    replace(ANIME, model="zoo:base"), replace(ANIME, through="pixels"), replace(ANIME, adapters=(Adapter(path="zoo:sketch"),)),
    replace(ANIME, sampling=Sampling(steps=6)), replace(ANIME, sampling=Sampling(guidance=2))])
def test_whatever_a_stage_says_is_in_the_identity_of_its_images(other: Stage, tmp_path: Path) -> None:
    bench = Workbench.for_grid(GRID, device="cpu", root=tmp_path)
    identities = {bench.weights(two("x", stage)).identity for stage in (ANIME, other)}
    assert len(identities | {bench.weights(Candidate(name="x", model="zoo:photo")).identity}) == 3


def test_the_identity_of_stages_does_not_depend_on_the_names_of_files(tmp_path: Path) -> None:
    files = ("a.safetensors", "b.safetensors")
    for name in files:
        (tmp_path / name).write_bytes(zoo.resolve("zoo:anime").read_bytes())
    bench = Workbench.for_grid(GRID, device="cpu", root=tmp_path)
    first, second = (bench.weights(two("x", replace(ANIME, model=Checkpoint(path=name, config="zoo:config")))) for name in files)
    assert first.identity == second.identity
    assert set(first.inputs) > {"a.safetensors"}


@pytest.mark.parametrize(("stage", "fact"), [
    (Stage(model="zoo:anime", strength=0.5, adapters=(Adapter(path="zoo:sketch", start=0.1, end=0.4),)), "none of the 2 steps"),
    (Stage(model=Merge(a="zoo:photo", b="zoo:anime", alpha=0.5, parts=("text_encoder_2",)), strength=0.5), "text_encoder_2"),
    (Stage(strength=0.5, sampling=Sampling(sampler="flow_euler")), "flow_euler"),
    (Stage(strength=0.5, sampling=Sampling(clip_skip=40)), "clip_skip"),
    (Stage(model=Merge(a="zoo:photo", b="zoo:photo", alpha=0.5), strength=0.5), "nothing changes"),
])
def test_what_the_files_of_a_stage_show_is_said_before_the_first_image(stage: Stage, fact: str, tmp_path: Path) -> None:
    suite = suite_of(two("x", stage))
    bench = Workbench.for_grid(GRID, device="cpu", root=tmp_path)
    problems = file_problems(suite, list(suite.candidates), bench, bench.equalities(suite.candidates), lambda *_: None)
    assert len(problems) == 1
    assert "stage 2" in problems[0]
    assert fact in problems[0]


def test_stages_after_one_model_are_not_taken_for_equal_weights(tmp_path: Path) -> None:
    bench = Workbench.for_grid(GRID, device="cpu", root=tmp_path)
    sweep = [replace(candidate, stages=(ANIME,)) for candidate in alpha_sweep("zoo:photo", "zoo:anime", (0, 0.5, 1))]
    others = [two(f"s{n}", replace(ANIME, strength=n)) for n in (0.25, 0.5, 0.75)]
    assert bench.equalities([*sweep, *others]) == {}


def test_promoting_stages_is_refused_with_what_can_be_done(tmp_path: Path) -> None:
    with pytest.raises(PromotionError, match=r"2 stages.*without stages"):
        as_one_file(two(), Workbench.for_grid(GRID, device="cpu", root=tmp_path))


def test_the_steps_of_all_stages_count_as_work() -> None:
    of_one = image_work(GRID, 4)
    assert candidate_work(GRID, two(), 4) == of_one * 1.5
    assert candidate_work(GRID, two("x", replace(ANIME, strength=1, sampling=Sampling(width=128))), 4) == of_one * 3


def test_a_run_that_was_stopped_between_images_goes_on_with_equal_bits(tmp_path: Path) -> None:
    suite = suite_of(two(), grid=tiny_grid(steps=4, prompts=PROMPTS[:2], guidance_scales=(4,), batch_size=2))
    made = []
    for folder, parts in ((tmp_path / "whole", [None]), (tmp_path / "stopped", [1, None])):
        folder.mkdir()
        for first in parts:
            run = run_of(suite, folder)
            try:
                cells = run.gallery.cells("two")
                assert isinstance(run.candidate(suite.candidates[0], cells[:first] if first else None), Finished)
                hashes = {sample.cell: sample.sha256 for sample in run.gallery.at_hand("two")}
            finally:
                run.close()
        made.append(hashes)
    assert made[0] == made[1]
    assert len(made[0]) == 2


def test_the_page_says_that_no_single_file_holds_stages_and_names_them(finished: tuple[Path, list[Any]]) -> None:
    from reports.page.pick_recipe import recipe_section

    section = recipe_section(load_run(finished[0] / "runs" / "staged"), "two")
    assert section is not None
    assert (section["one_file"], "zoo:anime" in section["text"]) == ("", True)
    assert not two().in_one_file
    assert Candidate(name="x", model="zoo:photo").in_one_file
