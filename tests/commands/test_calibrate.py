"""`sweetspot calibrate` runs the baseline against itself in a folder of its own, goes on where it stopped, and refuses in
words."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.cli import main
from harness.commands.calibrate import AGAIN, _made_otherwise, _table, calibration_suite
from harness.declare import BASELINE, Budget, Objective, Sampling
from harness.records import Journal, Latency, Sample
from reports.read.run import load_run
from reports.verdict.margins import Margin
from tests.fakes import tiny_suite
from tests.reports import synthetic

FILE = """
from harness import BASELINE, Gate
from harness.declare import Objective
from tests.fakes import tiny_suite

SUITE = tiny_suite(metrics=("exposure",), objective=Objective(maximise="saturation", penalties=()), latency_rounds=1, gates=(
    Gate(value="coverage"), Gate(value="clipped_share", not_worse_than=BASELINE, margin=0.01),
    Gate(value="seconds_per_image", not_worse_than=BASELINE, ratio=2.0)))
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("SWEETSPOT_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(FILE)


def test_the_run_is_the_baseline_twice_on_the_declared_seeds_and_others() -> None:
    suite = replace(tiny_suite(latency_rounds=3, largest_batch=8), budget=Budget())
    made = calibration_suite(replace(suite, grid=replace(suite.grid, seeds=(5, 9))), repeats=2)
    assert made.name == "tiny.calibration"
    assert [c.name for c in made.candidates] == ["alpha=0", f"alpha=0{AGAIN}"]
    assert made.candidates[0].key == made.candidates[1].key == suite.candidates[0].key
    assert made.grid.seeds == (5, 9, 10, 11, 12, 13)
    assert (made.latency_rounds, made.largest_batch, made.gates, made.budget) == (6, 0, (), None)


def test_a_calibration_tells_a_margin_for_each_gate_and_goes_on_where_it_stopped(
        tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["calibrate", "tiny.py"]) == 0
    said = capsys.readouterr().out
    folder = tmp_path / "runs" / "tiny.calibration"
    data = json.loads((folder / "calibration.json").read_text())
    assert f'write: Gate(value="clipped_share", not_worse_than={BASELINE.upper()}, margin=' in said
    assert "Numeric floor: the same image made in a batch and alone differs by at most" in said
    assert [row["gate"] for row in data["rows"] if row["gate"]] == [
        "coverage", "clipped_share not_worse_than baseline", "seconds_per_image not_worse_than baseline"]
    assert (data["seeds"], data["guidance"], data["confidence"]) == ([1, 2], 4.0, 0.95)
    assert not (tmp_path / "runs" / "tiny").exists()
    records, _ = Journal(folder / "journal.jsonl").read()
    # Five prompts, two seeds and two scales of the one; the cell that is timed of the other.
    made = [r.candidate for r in records if isinstance(r, Sample)]
    assert (made.count("alpha=0"), made.count(f"alpha=0{AGAIN}")) == (20, 1)
    assert sum(isinstance(r, Latency) for r in records) == 2
    assert main(["calibrate", "tiny.py"]) == 0
    again, _ = Journal(folder / "journal.jsonl").read()
    assert sum(isinstance(r, Sample) for r in again) == 21
    assert json.loads((folder / "calibration.json").read_text())["rows"] == data["rows"]


@pytest.mark.parametrize(("arguments", "words"), [
    (["nothing.py"], "nothing.py does not exist"),
    (["empty.py"], "empty.py has no SUITE at module level"),
    (["broken.py"], "broken.py, line 1: ZeroDivisionError"),
    (["wrong.py"], "the baseline 'alpha=7'"),
    (["tiny.py", "--repeats", "0"], "--repeats 0: expected a positive integer"),
    (["tiny.py", "--confidence", "1"], "--confidence 1: expected a share from 0.5 to 0.999"),
    (["tiny.py", "--guidance", "7"], "it has 1, 4"),
    (["tiny.py", "--device", "tpu"], "unknown device 'tpu'; expected cpu, cuda or cuda:N"),
])
def test_what_cannot_be_calibrated_is_refused_before_anything_is_made(
        arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.py").write_text("X = 1\n")
    (tmp_path / "broken.py").write_text("SUITE = 1 / 0\n")
    (tmp_path / "wrong.py").write_text(FILE.replace("tiny_suite(metrics", "tiny_suite(baseline='alpha=7', metrics"))
    assert main(["calibrate", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_baseline_that_this_device_does_not_offer_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "half.py").write_text(FILE + (
        "\nfrom dataclasses import replace\n"
        "SUITE = replace(SUITE, candidates=tuple(replace(c, quantization='fp16') for c in SUITE.candidates))\n"))
    assert main(["calibrate", "half.py"]) == 1
    assert "'fp16' is not offered on cpu" in capsys.readouterr().err.replace("fp16 is", "'fp16' is")



@pytest.mark.parametrize("baseline", [
    'Candidate(name="b", model=Merge(a="zoo:photo", b="zoo:anime", alpha=0.5))',
    'Candidate(name="b", model="zoo:photo", adapters=(Adapter(path="zoo:sketch"),))'])
def test_a_baseline_that_is_a_merge_or_has_an_adapter_is_calibrated(tmp_path: Path, baseline: str) -> None:
    (tmp_path / "made.py").write_text("from harness import Adapter, Candidate, Merge\n" + FILE.replace(
        "tiny_suite(metrics", f"tiny_suite(candidates=({baseline},), baseline='b', metrics"))
    assert main(["calibrate", "made.py"]) == 0


@pytest.mark.parametrize(("suite", "head", "words"), [
    ({}, {}, ""), ({"grid": replace(synthetic.SMALL, seeds=(3, 4))}, {}, ""),
    ({"grid": replace(synthetic.SMALL, steps=7)}, {}, "sampled with other settings (steps 7 and 20)"),
    ({"objective": Objective(penalties=())}, {}, "another objective"),
    ({}, {"metric_settings": {"clip_score": "another"}}, "clip_score: measured with another setting")])
def test_the_noise_of_a_run_of_other_settings_is_not_taken(tmp_path: Path, suite: dict[str, Any], head: dict[str, Any],
                                                           words: str) -> None:
    small = synthetic.merge_suite(grid=synthetic.SMALL)
    calibration = load_run(synthetic.write_run(tmp_path / "now", small))
    finished = load_run(synthetic.write_run(tmp_path / "then", replace(small, **suite), **head))
    assert words in (why := _made_otherwise(finished, calibration, small))
    assert bool(why) == bool(words)


def test_the_noise_of_a_run_on_other_pictures_is_not_taken(tmp_path: Path) -> None:
    suite = synthetic.controlled_suite()
    contents = {file: f"content of {file}" for prompt in suite.grid.prompts for file in prompt.pictures.values()}
    then, now, again = (load_run(synthetic.write_run(tmp_path / name, suite, pictures=pictures)) for name, pictures in (
        ("then", {**contents, "p01.png": "other"}), ("now", contents), ("again", contents)))
    assert "pictures of prompts 'p01'" in _made_otherwise(then, now, suite)
    assert _made_otherwise(again, now, suite) == ""


@pytest.mark.parametrize(("then", "now", "words"), [
    ({"alpha=0": Sampling(steps=4)}, {}, "'alpha=0' was sampled with other settings (steps 4 and 20)"),
    ({}, {"alpha=0": Sampling(width=72)}, "'alpha=0' was sampled with other settings (width 32 and 72)"),
    ({}, {"alpha=1": Sampling(clip_skip=2)}, "'alpha=1' was sampled with other settings (clip skip not stated and 2)"),
    ({"alpha=1": Sampling(steps=4)}, {"alpha=1": Sampling(steps=4)}, "")])
def test_a_run_counts_by_the_sampling_of_its_candidates_and_not_by_the_grids(
        tmp_path: Path, then: dict[str, Sampling], now: dict[str, Sampling], words: str) -> None:
    suites = [synthetic.merge_suite(grid=synthetic.SMALL)] * 2
    suites = [replace(suite, candidates=tuple(replace(c, sampling=own.get(c.name)) for c in suite.candidates))
              for suite, own in zip(suites, (then, now), strict=True)]
    runs = [load_run(synthetic.write_run(tmp_path / name, suite)) for name, suite in zip(("then", "now"), suites, strict=True)]
    assert words in (why := _made_otherwise(*runs, suites[1]))
    assert bool(why) == bool(words)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_gates_of_one_value_are_told_apart_in_the_narrowest_table(tmp_path: Path, width: int) -> None:
    run = load_run(synthetic.write_run(tmp_path / "run", synthetic.merge_suite(grid=synthetic.SMALL)))
    names = ["clip_score not_worse_than baseline", "clip_score not_worse_than promoted", "clip_score at_least 25"]
    rows = [Margin(gate=name, value="clip_score", source="A/A, 2 seeds") for name in names]
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(_table(run, "gates", rows, 0.95))
    first = [line.split("│")[1].strip() for line in console.export_text().splitlines() if line.startswith("│")]
    assert "".join(first).replace(" ", "") == "".join(names).replace(" ", "")
