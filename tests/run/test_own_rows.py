"""A run with rows of one's own: a metric that fails costs its own values, changed code is measured again, and code that only the
run folder names is not imported."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness import Budget, Candidate, Gate, Suite
from harness.declare import plain
from harness.materialise import Workbench
from harness.metrics import METRICS
from harness.records import Finished, Journal, Measurement
from harness.run.progress import Silent
from harness.run.race_files import race_files
from harness.run.run_json import race_of
from harness.run.suite_run import Options, SuiteRun
from reports import judge, load_run, recommend, write_page
from tests.fakes import tiny_grid, tiny_suite
from tests.own_code import clean_imports, write

pytestmark = pytest.mark.usefixtures(clean_imports.__name__)

METRIC = """
from harness.metrics import ImageScore, Metric, ValueSpec
def measure(image_set):
    if "blue" in "".join(image_set.texts):
        raise LookupError("no blue in my table")
    return [ImageScore(values={"level": float(image.mean())}) for image in image_set.images]
LEVEL = Metric(measure=measure, version=1, values=(
    ValueSpec(name="level", title="Level", unit="levels", better="nearer", low=0, high=255, definition="mean level"),))
"""
HOSTILE = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"


@pytest.fixture(autouse=True)
def zoo_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("SWEETSPOT_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))
    monkeypatch.setattr(METRICS, "_own", {})


def suite(**changes: object) -> Suite:
    grid = tiny_grid(prompts=tiny_grid().prompts[:2], guidance_scales=(4,))
    gate = Gate(value="level", at_least=1, candidates=("photo",))
    return tiny_suite(**{"candidates": (Candidate(name="photo", model="zoo:photo"),), "baseline": "photo", "grid": grid,
                         "metrics": ("exposure", "levels:LEVEL"), "gates": (gate,), **changes})


def go(root: Path) -> object:
    run = SuiteRun(suite(), "suites/tiny.py", Options(root=root, runs=root / "runs"), Silent())
    try:
        return run.candidate(run.suite.candidates[0])
    finally:
        run.close()


def measured(root: Path, metric: str) -> list[str]:
    records, _ = Journal(root / "runs/tiny/journal.jsonl").read()
    return [record.cell.prompt for record in records if isinstance(record, Measurement) and record.metric == metric]


def test_a_metric_that_fails_on_an_image_costs_that_value_alone(tmp_path: Path) -> None:
    write(tmp_path, "suites/levels.py", METRIC)
    (failure,) = go(tmp_path)  # type: ignore[misc]
    assert failure.stage == "metric levels:LEVEL"
    assert all(fact in failure.message for fact in ("'levels:LEVEL'", "no blue in my table", "levels.py, line 5"))
    assert sorted(measured(tmp_path, "exposure")) == ["car", "star"]
    assert measured(tmp_path, "levels:LEVEL") == ["star"]
    run = load_run(tmp_path / "runs/tiny")
    assert run.values["level"].metric == "levels:LEVEL"
    (verdict,) = judge(run, recommend(run))
    assert verdict.status == "not_measured"
    assert "no blue in my table" in verdict.reason


def test_a_metric_that_returns_too_few_scores_fails_and_its_values_are_missing(tmp_path: Path) -> None:
    one_score = METRIC.replace(" for image in image_set.images]", " for image in image_set.images[:1]]").replace("blue", "none")
    write(tmp_path, "suites/levels.py", one_score)
    (failure,) = go(tmp_path)  # type: ignore[misc]
    assert all(fact in failure.message for fact in ("'levels:LEVEL'", "1 scores", "2 images"))
    assert measured(tmp_path, "levels:LEVEL") == []
    assert {(gap.value, gap.count) for gap in load_run(tmp_path / "runs/tiny").missing} >= {("level", 2)}


def test_a_page_is_made_again_without_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, "suites/levels.py", METRIC.replace("raise", "pass #"))
    go(tmp_path)
    file.write_text(HOSTILE)
    del sys.modules["levels"]
    write_page(tmp_path / "runs/tiny")
    assert not (tmp_path / "suites/ran").exists()
    assert "Level" in (tmp_path / "runs/tiny/report.html").read_text(encoding="utf-8")


def test_a_metric_whose_code_has_changed_measures_again_and_no_image_is_made(tmp_path: Path,
                                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    for divisor in (2, 2, 4):
        code = METRIC.replace("raise", "pass #").replace("image.mean()", f"image.mean() / {divisor}")
        write(tmp_path, "suites/levels.py", code)
        monkeypatch.setattr(METRICS, "_own", {})
        sys.modules.pop("levels", None)
        done = go(tmp_path)
    assert isinstance(done, Finished)
    assert done.sampled == 0
    assert len(measured(tmp_path, "levels:LEVEL")) == 4
    assert len(measured(tmp_path, "exposure")) == 2


def test_code_that_only_the_run_folder_names_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "hostile.py", HOSTILE)
    monkeypatch.syspath_prepend(tmp_path)
    declared = suite(metrics=("exposure",), gates=(), budget=Budget())
    added = (Candidate(name="m", model="zoo:photo", quantization="hostile:M"),
             Candidate(name="r", model="zoo:photo", runtime="hostile:R"))
    head = {"format": 1, "suite": plain(replace(declared, candidates=(*declared.candidates, *added))), "added": ["m", "r"],
            "race": race_of(declared, race_files(declared, Workbench(device="cpu", root=tmp_path))),
            "metrics": {"level": {"metric": "hostile:LEVEL"}}}
    write(tmp_path, "runs/tiny/run.json", json.dumps(head))
    run = SuiteRun(declared, "suites/tiny.py", Options(root=tmp_path, runs=tmp_path / "runs"), Silent())
    try:
        assert [c.name for c in run.suite.candidates] == ["photo", "m", "r"]
        said = "\n".join(run.preflight())
    finally:
        run.close()
    assert "hostile:M" in said
    assert "hostile:R" in said
    assert not (tmp_path / "ran").exists()
