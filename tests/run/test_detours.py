"""Whatever happens between two runs of a folder (files changed, suites edited, lines damaged), nothing stale is reused
and nothing sound is lost."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness import Candidate, Checkpoint, Suite
from harness.records import Failure, Finished, Journal, Latency, Measurement, Sample
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from harness.run_folder.folder import RunInUseError
from harness.run_folder.ledger import Ledger, RunFolderError
from harness.zoo import resolve
from reports import load_run
from tests.fakes import tiny_grid, tiny_suite
from tests.painted import paint_runs


@pytest.fixture(autouse=True)
def painted(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("SWEETSPOT_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))
    paint_runs(monkeypatch)


def suite(root: Path, **changes: object) -> Suite:
    """Two plain checkpoints, one of them a file of the user's."""
    mine = root / "mine.safetensors"
    if not mine.exists():
        mine.write_bytes(resolve("zoo:anime").read_bytes())
    values: dict[str, object] = {
        "candidates": (Candidate(name="photo", model="zoo:photo"), Candidate(
            name="mine", model=Checkpoint(path="mine.safetensors", config="zoo:config"))),
        "baseline": "photo", "metrics": ("exposure", "palette"), "latency_rounds": 1}
    return tiny_suite(**{**values, **changes})


def go(root: Path, declared: Suite, *names: str, **options: object) -> dict[str, Finished | list[Failure]]:
    run = SuiteRun(declared, "s.py", Options(root=root, runs=root / "runs", **options), Silent())  # type: ignore[arg-type]
    try:
        done = {c.name: run.candidate(c) for c in declared.candidates if not names or c.name in names}
        run.costs([name for name in done if run.sampled(name)])
        return done
    finally:
        run.close()


def records(root: Path, kind: type) -> list[object]:
    return [r for r in Journal(root / "runs" / "tiny" / "journal.jsonl").read()[0] if isinstance(r, kind)]


def test_a_failed_detour_costs_no_picture(tmp_path: Path) -> None:
    declared = suite(tmp_path)
    go(tmp_path, declared)
    sound = (tmp_path / "mine.safetensors").read_bytes()
    (tmp_path / "mine.safetensors").write_bytes(sound[:1000])
    assert isinstance(go(tmp_path, declared)["mine"], list)
    (tmp_path / "mine.safetensors").write_bytes(sound)
    back = go(tmp_path, declared)["mine"]
    assert isinstance(back, Finished)
    assert back.reused == 10
    run = load_run(tmp_path / "runs" / "tiny")
    assert len(run.images) == 20
    assert run.failures == ()


def test_other_steps_are_timed_again(tmp_path: Path) -> None:
    go(tmp_path, suite(tmp_path))
    go(tmp_path, suite(tmp_path, grid=tiny_grid(steps=3)))
    assert len({r.setting for r in records(tmp_path, Latency) if isinstance(r, Latency) and r.candidate == "mine"}) == 2


def test_pictures_of_other_settings_are_not_compared(tmp_path: Path) -> None:
    go(tmp_path, suite(tmp_path))
    go(tmp_path, suite(tmp_path, grid=tiny_grid(steps=3)), "mine")
    run = load_run(tmp_path / "runs" / "tiny")
    assert set(run.images["candidate"]) == {"mine"}
    assert any(g.candidate == "photo" and "other settings" in g.why for g in run.missing)


def test_another_clip_model_measures_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = suite(tmp_path, metrics=("clip_score", "exposure"))
    go(tmp_path, declared)
    before = len(records(tmp_path, Measurement))
    monkeypatch.setattr("harness.run.clip_model.ClipModel.setting", lambda _: "another")
    go(tmp_path, declared)
    assert len(records(tmp_path, Measurement)) == before + 20


def test_fresh_keeps_everything_when_the_files_are_broken(tmp_path: Path) -> None:
    go(tmp_path, suite(tmp_path))
    (tmp_path / "mine.safetensors").write_bytes(b"torn")
    outcome = go(tmp_path, suite(tmp_path), "mine", fresh=True)
    assert isinstance(outcome["mine"], list)
    assert len(list((tmp_path / "runs").rglob("*.png"))) == 20


def test_fresh_starts_over_for_the_selected_and_touches_nobodys_files(tmp_path: Path) -> None:
    go(tmp_path, suite(tmp_path))
    holiday = tmp_path / "runs" / "tiny" / "images" / "holiday.png"
    holiday.write_bytes(b"mine")
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*.png")}
    done = go(tmp_path, suite(tmp_path), "mine", fresh=True)["mine"]
    assert isinstance(done, Finished)
    assert done.sampled == 10
    untouched = [p for p, when in made.items() if p.stat().st_mtime_ns == when]
    assert len(untouched) == 11
    assert holiday in untouched
    named = [r.candidate for r in records(tmp_path, Sample) if isinstance(r, Sample)]
    assert (named.count("mine"), named.count("photo")) == (10, 10), "what was forgotten is in the journal no more"


def test_lost_coverage_is_made_good(tmp_path: Path) -> None:
    go(tmp_path, suite(tmp_path))
    journal = tmp_path / "runs" / "tiny" / "journal.jsonl"
    lines = journal.read_text().splitlines()
    lost = next(i for i, line in enumerate(lines) if '"kind":"coverage"' in line and '"unet"' in line)
    journal.write_text("\n".join([*lines[:lost], *lines[lost + 1:]]) + "\n")
    assert not Ledger(journal.parent).covered("photo")
    go(tmp_path, suite(tmp_path))
    assert Ledger(journal.parent).covered("photo")


@pytest.mark.parametrize("line", [
    '{"kind":"sample","key":"k","candidate":"photo","cell":{"prompt":"star","seed":1,"guidance":1},"path":5,"sha256":"x"}',
    '{"kind":"sample","key":"k","candidate":"photo","cell":{"prompt":["a"],"seed":1,"guidance":1},"path":"p","sha256":"x"}',
    '{"kind":"failure","candidate":7,"stage":"s","error":"e","message":"m"}', "[" * 100_000, "\x00\xff", '"text"', "{}"])
def test_a_line_edited_by_hand_is_reported_and_costs_only_itself(tmp_path: Path, line: str) -> None:
    go(tmp_path, suite(tmp_path))
    journal = tmp_path / "runs" / "tiny" / "journal.jsonl"
    with journal.open("a") as file:
        file.write(line + "\n")
    assert all(isinstance(done, Finished) for done in go(tmp_path, suite(tmp_path)).values())
    assert len(Ledger(journal.parent).damaged) == 1


def test_a_folder_of_another_format_is_not_spoilt(tmp_path: Path) -> None:
    go(tmp_path, suite(tmp_path))
    head = tmp_path / "runs" / "tiny" / "run.json"
    head.write_text(json.dumps({**json.loads(head.read_text()), "format": 9}))
    before = hashlib.sha256(head.read_bytes()).hexdigest()
    with pytest.raises(RunFolderError, match="format 9"):
        go(tmp_path, suite(tmp_path))
    assert hashlib.sha256(head.read_bytes()).hexdigest() == before


def test_a_file_in_the_place_of_the_runs_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(RunFolderError, match="runs"):
        go(tmp_path, suite(tmp_path))


def test_a_run_that_could_not_be_opened_lets_go_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "runs" / "tiny" / "journal.jsonl").mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(RunFolderError) as refused:
            go(tmp_path, suite(tmp_path))
        assert not isinstance(refused.value, RunInUseError)


def test_a_candidate_taken_out_of_the_suite_leaves_the_report_whole(tmp_path: Path) -> None:
    declared = suite(tmp_path)
    broken = Candidate(name="broken", model="zoo:photo", adapters=(), quantization="fp16")
    go(tmp_path, replace(declared, candidates=(*declared.candidates, broken)))
    go(tmp_path, declared)
    assert load_run(tmp_path / "runs" / "tiny").failures == ()
