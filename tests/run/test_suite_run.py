"""A run outlives altered files and crashed metrics: nothing lost, nothing doubled, the rest goes on. tests/chaos kills one."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness import Candidate, Suite
from harness.metrics import METRICS
from harness.records import Failure, Finished, Journal, Measurement, Sample
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from harness.run_folder.folder import RunInUseError
from tests.fakes import tiny_suite
from tests.painted import paint_runs


@pytest.fixture(autouse=True, scope="module")
def zoo_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The zoo's files are assembled once."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SWEETSPOT_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> None:
    paint_runs(monkeypatch)


def go(tmp_path: Path, suite: Suite, **options: object) -> list[Finished | list[Failure]]:
    run = SuiteRun(suite, "tiny.py", Options(root=tmp_path, runs=tmp_path / "runs", **options), Silent())  # type: ignore[arg-type]
    try:
        return [run.candidate(candidate) for candidate in suite.candidates]
    finally:
        run.close()


def cheap_suite(**changes: object) -> Suite:
    return tiny_suite(**{"metrics": ("psnr", "exposure"), **changes})


def pictures(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.png")}


def test_a_sampled_run_has_every_picture_and_metric_and_the_parents_of_a_merge_are_its_ends_bit_for_bit(tmp_path: Path) -> None:
    suite = tiny_suite()
    parents = (Candidate(name="photo", model="zoo:photo"), Candidate(name="anime", model="zoo:anime"))
    done = go(tmp_path, replace(suite, candidates=(*suite.candidates, *parents)))
    assert all(isinstance(one, Finished) for one in done)
    folder = tmp_path / "runs" / "tiny"
    records, damaged = Journal(folder / "journal.jsonl").read()
    assert len([r for r in records if isinstance(r, Sample)]) == 5 * 10
    assert len([r for r in records if isinstance(r, Measurement)]) == 5 * 10 * 4
    assert damaged == []
    assert json.loads((folder / "run.json").read_text())["metrics"]["clip_score"]["unit"]
    for merge, parent in (("alpha=0", "photo"), ("alpha=1", "anime")):
        ends = [sorted(pictures(folder / "images" / name).values()) for name in (merge, parent)]
        assert len(ends[0]) == 10
        assert ends[0] == ends[1]


def test_a_second_run_reuses_every_picture(tmp_path: Path, painted: None) -> None:
    go(tmp_path, cheap_suite())
    assert [(d.sampled, d.reused) for d in go(tmp_path, cheap_suite()) if isinstance(d, Finished)] == [(0, 10)] * 3


def test_an_altered_and_a_deleted_picture_are_made_again(tmp_path: Path, painted: None) -> None:
    go(tmp_path, cheap_suite())
    folder = tmp_path / "runs" / "tiny"
    whole = pictures(folder)
    one, two = sorted(folder.rglob("*.png"))[:2]
    one.write_bytes(b"altered")
    two.unlink()
    again = go(tmp_path, cheap_suite())
    assert sum(d.sampled for d in again if isinstance(d, Finished)) == 2
    assert pictures(folder) == whole


def test_a_renamed_candidate_keeps_its_pictures(tmp_path: Path, painted: None) -> None:
    suite = cheap_suite()
    go(tmp_path, suite)
    renamed = replace(suite, candidates=tuple(replace(c, name=f"m{i}") for i, c in enumerate(suite.candidates)), baseline="m0")
    assert [d.sampled for d in go(tmp_path, renamed) if isinstance(d, Finished)] == [0, 0, 0]


def test_a_crashed_metric_is_a_failure_and_the_rest_goes_on(tmp_path: Path, painted: None,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_: object) -> list[object]:
        raise ZeroDivisionError("in the metric")

    monkeypatch.setitem(METRICS, "exposure", replace(METRICS["exposure"], measure=crash))  # type: ignore[arg-type]
    outcomes = go(tmp_path, cheap_suite(metrics=("psnr", "exposure", "palette")))
    assert all(isinstance(o, list) and [f.stage for f in o] == ["metric exposure"] for o in outcomes)
    records = Journal(tmp_path / "runs" / "tiny" / "journal.jsonl").read()[0]
    assert {m.metric for m in records if isinstance(m, Measurement)} == {"psnr", "palette"}


def test_two_runs_cannot_write_to_one_folder(tmp_path: Path) -> None:
    options = Options(root=tmp_path, runs=tmp_path / "runs")
    first = SuiteRun(tiny_suite(), "tiny.py", options, Silent())
    with pytest.raises(RunInUseError, match="another run is writing"):
        SuiteRun(tiny_suite(), "tiny.py", options, Silent())
    first.close()


def test_fresh_starts_over(tmp_path: Path, painted: None) -> None:
    go(tmp_path, cheap_suite())
    assert [d.sampled for d in go(tmp_path, cheap_suite(), fresh=True) if isinstance(d, Finished)] == [10, 10, 10]
