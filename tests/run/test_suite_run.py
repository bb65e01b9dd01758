"""A run outlives kills, altered files and crashed metrics: nothing lost, nothing doubled, the rest goes on."""

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness import Suite
from harness.metrics import METRICS
from harness.records import Failure, Finished, Journal, Measurement, Sample
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from harness.run_folder.folder import RunInUseError
from tests.fakes import tiny_suite

ROOT = Path(__file__).parents[2]
IN_A_PROCESS = """
import sys
from pathlib import Path
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from tests.fakes import tiny_suite
run = SuiteRun(tiny_suite(), "tiny.py", Options(root=Path(sys.argv[1]), runs=Path(sys.argv[1]) / "runs"), Silent())
for candidate in run.suite.candidates:
    run.candidate(candidate)
"""


@pytest.fixture(autouse=True, scope="module")
def zoo_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The zoo's files are assembled once."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SWEETSPOT_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))


def go(tmp_path: Path, suite: Suite | None = None, **options: object) -> list[Finished | list[Failure]]:
    suite = suite or tiny_suite()
    run = SuiteRun(suite, "tiny.py", Options(root=tmp_path, runs=tmp_path / "runs", **options), Silent())  # type: ignore[arg-type]
    try:
        return [run.candidate(candidate) for candidate in suite.candidates]
    finally:
        run.close()


def pictures(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.png")}


def values(folder: Path) -> dict[tuple[str, str, object], object]:
    records, _ = Journal(folder / "journal.jsonl").read()
    return {(m.candidate, m.metric, m.cell): (dict(m.values), dict(m.labels)) for m in records if isinstance(m, Measurement)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an unbroken run, for comparison."""
    root = tmp_path_factory.mktemp("whole")
    assert all(isinstance(done, Finished) for done in go(root))
    return root / "runs" / "tiny"


def test_every_cell_has_a_picture_and_every_metric(whole: Path) -> None:
    records, damaged = Journal(whole / "journal.jsonl").read()
    assert len([r for r in records if isinstance(r, Sample)]) == 3 * 10
    assert len([r for r in records if isinstance(r, Measurement)]) == 3 * 10 * 4
    assert damaged == []
    assert json.loads((whole / "run.json").read_text())["metrics"]["clip_score"]["unit"]


@pytest.mark.slow
def test_a_killed_run_ends_like_an_unbroken_one(tmp_path: Path, whole: Path) -> None:
    """Killed without warning at three random counts of written pictures, then left to finish."""
    folder = tmp_path / "runs" / "tiny"
    command = [sys.executable, "-c", IN_A_PROCESS, str(tmp_path)]
    for pictures_before_the_kill in sorted(random.Random(7).sample(range(1, 29), 3)):
        process = subprocess.Popen(command, cwd=ROOT)
        while process.poll() is None and len(list(folder.rglob("*.png"))) < pictures_before_the_kill:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, cwd=ROOT, check=True)
    assert pictures(folder) == pictures(whole)
    assert values(folder) == values(whole)
    assert not list(folder.rglob("*.tmp"))


def test_a_second_run_reuses_every_picture(tmp_path: Path) -> None:
    go(tmp_path)
    assert [(d.sampled, d.reused) for d in go(tmp_path) if isinstance(d, Finished)] == [(0, 10)] * 3


def test_an_altered_and_a_deleted_picture_are_made_again(tmp_path: Path, whole: Path) -> None:
    go(tmp_path)
    folder = tmp_path / "runs" / "tiny"
    one, two = sorted(folder.rglob("*.png"))[:2]
    one.write_bytes(b"altered")
    two.unlink()
    go(tmp_path)
    assert pictures(folder) == pictures(whole)


def test_a_renamed_candidate_keeps_its_pictures(tmp_path: Path) -> None:
    go(tmp_path)
    suite = tiny_suite()
    renamed = replace(suite, candidates=tuple(replace(c, name=f"m{i}") for i, c in enumerate(suite.candidates)), baseline="m0")
    assert [d.sampled for d in go(tmp_path, renamed) if isinstance(d, Finished)] == [0, 0, 0]


def test_a_crashed_metric_is_a_failure_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_: object) -> list[object]:
        raise ZeroDivisionError("in the metric")

    monkeypatch.setitem(METRICS, "exposure", replace(METRICS["exposure"], measure=crash))  # type: ignore[arg-type]
    outcomes = go(tmp_path)
    assert all(isinstance(o, list) and [f.stage for f in o] == ["metric exposure"] for o in outcomes)
    assert {m for _, m, _ in values(tmp_path / "runs" / "tiny")} == {"psnr", "clip_score", "palette"}


def test_two_runs_cannot_write_to_one_folder(tmp_path: Path) -> None:
    options = Options(root=tmp_path, runs=tmp_path / "runs")
    first = SuiteRun(tiny_suite(), "tiny.py", options, Silent())
    with pytest.raises(RunInUseError, match="another run is writing"):
        SuiteRun(tiny_suite(), "tiny.py", options, Silent())
    first.close()


def test_fresh_starts_over(tmp_path: Path) -> None:
    go(tmp_path)
    assert [d.sampled for d in go(tmp_path, fresh=True) if isinstance(d, Finished)] == [10, 10, 10]


def test_the_parents_of_a_merge_are_its_ends_bit_for_bit(tmp_path: Path) -> None:
    from harness import Candidate

    suite = tiny_suite()
    parents = (Candidate(name="photo", model="zoo:photo"), Candidate(name="anime", model="zoo:anime"))
    go(tmp_path, replace(suite, candidates=(*suite.candidates, *parents)))
    folder = tmp_path / "runs" / "tiny" / "images"
    for merge, parent in (("alpha=0", "photo"), ("alpha=1", "anime")):
        ends = [sorted(hashlib.sha256(p.read_bytes()).hexdigest() for p in (folder / name).glob("*.png"))
                for name in (merge, parent)]
        assert ends[0] == ends[1]
