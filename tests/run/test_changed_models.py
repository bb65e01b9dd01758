"""A run in which a model file is replaced records no picture or value of the one file under the hash of the other: the candidate
fails by name, and the next run makes what a clean one makes."""

import os
import shutil
from pathlib import Path

import pytest

from harness import Candidate, Merge, Suite
from harness.metrics.clip import ScorerError
from harness.records import Failure, Finished
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from harness.zoo import resolve
from reports.read.run import load_run
from tests.fakes import tiny_suite
from tests.painted import paint_runs


@pytest.fixture(autouse=True)
def painted(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("SWEETSPOT_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))
    paint_runs(monkeypatch)


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    for name, member in (("b", "anime"), ("other", "base")):
        shutil.copyfile(resolve(f"zoo:{member}"), tmp_path / f"{name}.safetensors")
    merges = [Candidate(name=f"alpha={alpha}", model=Merge(a="zoo:photo", b="b.safetensors", alpha=alpha), axes={"alpha": alpha})
              for alpha in (0.5, 0.7, 0.9)]
    return tiny_suite(candidates=merges, baseline="alpha=0.5", metrics=("exposure",))


def opened(suite: Suite, root: Path, runs: str = "runs") -> SuiteRun:
    return SuiteRun(suite, "tiny.py", Options(root=root, runs=root / runs), Silent())


def replace_b(root: Path) -> None:
    (root / "other.safetensors").replace(root / "b.safetensors")


def pictures(root: Path, runs: str) -> dict[str, bytes]:
    folder = root / runs / "tiny" / "images"
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.png")}


def go(suite: Suite, root: Path, runs: str) -> None:
    run = opened(suite, root, runs)
    assert all(isinstance(run.candidate(candidate), Finished) for candidate in suite.candidates)
    run.close()


def test_a_parent_that_is_replaced_between_two_candidates_fails_the_second_by_name_and_the_next_run_is_that_of_the_new_file(
        suite: Suite, tmp_path: Path) -> None:
    run = opened(suite, tmp_path)
    assert isinstance(run.candidate(suite.candidates[0]), Finished)
    replace_b(tmp_path)
    run.release()
    failures = run.candidate(suite.candidates[1])
    assert isinstance(failures, list)
    assert (failures[0].error, failures[0].message.partition(":")[0]) == ("ChangedFileError", "b.safetensors")
    assert [failure.error for failure in run.costs(["alpha=0.5"])] == ["ChangedFileError"]
    run.close()
    assert set(load_run(tmp_path / "runs" / "tiny").images["candidate"]) == {"alpha=0.5"}
    for runs in ("runs", "clean"):
        go(suite, tmp_path, runs)
    new = {name: data for name, data in pictures(tmp_path, "runs").items() if name in pictures(tmp_path, "clean")}
    assert new == pictures(tmp_path, "clean")


def test_two_runs_of_one_process_each_see_the_file_of_their_time(suite: Suite, tmp_path: Path) -> None:
    go(suite, tmp_path, "before")
    replace_b(tmp_path)
    go(suite, tmp_path, "after")
    assert pictures(tmp_path, "before").values() != pictures(tmp_path, "after").values()
    before, after = (load_run(tmp_path / runs / "tiny").weights["alpha=0.9"].inputs["b.safetensors"]
                     for runs in ("before", "after"))
    assert before != after


@pytest.mark.parametrize("released", [False, True])
def test_a_clip_file_that_is_replaced_after_it_was_hashed_scores_nothing(
        suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, released: bool) -> None:
    file = tmp_path / "clip.safetensors"
    shutil.copyfile(resolve("zoo:clip"), file)
    monkeypatch.setattr("harness.run.clip_model.load_scorer", lambda *_, **__: type("Scorer", (), {"definition": lambda _: ""})())
    run = opened(tiny_suite(candidates=suite.candidates[:1], baseline="alpha=0.5", metrics=("clip_score",),
                            clip="ViT-B-32:clip.safetensors"), tmp_path)
    if released:
        run._clip.scorer()
        run.release()
    os.utime(file, (1, 1))
    with file.open("r+b") as raw:
        raw.seek(-1, os.SEEK_END)
        raw.write(b"\x07")
    with pytest.raises(ScorerError, match="CLIP model was changed since"):
        run._clip.scorer()
    run.close()


def test_a_failure_of_this_kind_says_what_to_do(suite: Suite, tmp_path: Path) -> None:
    run = opened(suite, tmp_path)
    assert run.preflight() == []
    (tmp_path / "b.safetensors").unlink()
    failures = run.candidate(suite.candidates[0])
    run.close()
    assert isinstance(failures, list)
    assert isinstance(failures[0], Failure)
    assert "was removed" in failures[0].message
    assert "Run again once nothing writes to it" in failures[0].message
