"""When candidates are timed again: together, in the environment of today, and never by sampling anything again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness import Candidate, Suite, alpha_sweep
from harness.probes.environment import environment
from harness.records import Finished, Journal, Latency
from harness.run.costs import Costs
from harness.run.latency import timing_setting
from harness.run.progress import Silent
from harness.runtimes import RUNTIMES
from harness.session.suite_session import SuiteSession
from reports.comparable import pictured_otherwise
from reports.page.environments import environments
from reports.read.run import load_run
from reports.verdict.costs import incomparable, timed_apart
from reports.verdict.recommending import recommend
from tests.painted import paint_runs, pass_time
from tests.race.painted import DeclaredBench, session_options, suite


class TimedBench(DeclaredBench):
    """One that never loads an architecture."""

    def load_seconds(self, _: Candidate) -> tuple[float, ...]:
        return ()

    def runtime_seconds(self, _: Candidate) -> dict[str, tuple[float, ...]]:
        return {}


@pytest.fixture(autouse=True)
def painted(monkeypatch: pytest.MonkeyPatch) -> None:
    paint_runs(monkeypatch, TimedBench)


def go(root: Path, declared: Suite, names: tuple[str, ...] = (), **options: Any) -> list[str]:
    """A session of the named candidates, or of all, with its timing; what it said."""
    said: list[str] = []
    of = SuiteSession(declared, "s.py", session_options(root, **options), Silent(), say=said.append)
    chosen = [c for c in declared.candidates if not names or c.name in names]
    of.select(chosen)
    try:
        for candidate in chosen:
            assert of.candidate(candidate) == []
        assert of.costs() == []
        return [*said, of.reused()]
    finally:
        of.close()


def records(root: Path, kind: type) -> Iterator[Any]:
    return (r for r in Journal(root / "runs" / "tiny" / "journal.jsonl").read()[0] if isinstance(r, kind))


def times(root: Path) -> dict[str, list[str]]:
    """When each candidate was timed, by name."""
    timed: dict[str, list[str]] = {}
    for latency in records(root, Latency):
        timed.setdefault(latency.candidate, []).append(latency.timed_at)
    return timed


def declared(*names: str) -> Suite:
    whole = suite(None)
    return replace(whole, candidates=tuple(c for c in whole.candidates if not names or c.name in names))


def test_a_second_session_times_nothing_and_says_how_much_is_reused(tmp_path: Path) -> None:
    first, images = go(tmp_path, declared()), len(list(tmp_path.rglob("*.png")))
    again = go(tmp_path, declared())
    assert {len(at) for at in times(tmp_path).values()} == {1}
    count = len(declared().candidates)
    assert first == [f"tiny: reused 0 of {images} images and 0 of {count} timings"]
    assert again[0].startswith(f"tiny: reused {images} of {images} images and {count} of {count} timings (of 20")
    assert "--retime" in again[0]


def test_a_new_candidate_is_timed_together_with_all_that_it_is_compared_with(tmp_path: Path) -> None:
    go(tmp_path, declared("alpha=0", "alpha=1"))
    sampled = len(list(tmp_path.rglob("*.png")))
    said = go(tmp_path, declared("alpha=0", "alpha=0.5", "alpha=1"))
    assert len({at[-1] for at in times(tmp_path).values()}) == 1
    assert "alpha=0.5 was not timed yet" in said[0]
    assert f"reused {sampled} of {sampled * 3 // 2} images and 0 of 3 timings" in said[1]
    assert [f.sampled for f in records(tmp_path, Finished) if f.candidate == "alpha=0"] == [sampled // 2, 0]


def test_the_baseline_of_an_earlier_session_is_timed_with_the_one_candidate_that_is_selected(tmp_path: Path) -> None:
    whole = declared()
    go(tmp_path, whole)
    go(tmp_path, replace(whole, latency_rounds=whole.latency_rounds + 1), ("alpha=0.5",))
    run = load_run(tmp_path / "runs" / "tiny")
    assert run.latency["alpha=0.5"].timed_at == run.latency[whole.baseline].timed_at
    assert not timed_apart(run, "alpha=0.5", whole.baseline)


def test_what_was_not_timed_together_is_not_compared_and_the_remedy_is_named(tmp_path: Path) -> None:
    whole = replace(declared(), candidates=alpha_sweep("zoo:photo", "zoo:anime", (0, 0.25, 0.5, 1)))
    go(tmp_path, whole)
    go(tmp_path, whole, ("alpha=0.5",), retime=True)
    run = load_run(tmp_path / "runs" / "tiny")
    assert [name for name in run.latency if timed_apart(run, name, "alpha=0.5")] == ["alpha=0.25"]
    assert "were not timed together; run again with --retime" in incomparable(run, "alpha=0.5", "alpha=0.25")
    go(tmp_path, whole)
    run = load_run(tmp_path / "runs" / "tiny")
    assert len({latency.timed_at for latency in run.latency.values()}) == 1


def test_retime_times_everything_once_more_and_samples_nothing(tmp_path: Path) -> None:
    go(tmp_path, declared())
    said = go(tmp_path, declared(), retime=True)
    assert {len(at) for at in times(tmp_path).values()} == {2}
    assert said[0].endswith("together again: --retime")
    assert {f.sampled for f in [*records(tmp_path, Finished)][-len(declared().candidates):]} == {0}


@pytest.mark.parametrize(("fact", "value", "again"), [
    ("packages.torch", "9.9.9", True), ("packages.diffusers", "9.9.9", True), ("packages.sweetspot", "9.9.9", True),
    ("cuda", "99.9", True), ("driver", "999", True), ("torch_threads", 99, True), ("cores", 99, True), ("cpu", "another", True),
    ("variables", {"ATEN_CPU_CAPABILITY": "default"}, True), ("flags", {"deterministic_algorithms": False}, True),
    ("git_commit", "abc", False), ("python", "9.9", False), ("packages.pytest", "99", False),
    ("packages.onnxruntime", "9.9.9", False)])
def test_what_can_change_a_latency_voids_it_and_is_named(
        fact: str, value: object, *, again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(tmp_path, declared())

    def other(device: str) -> dict[str, Any]:
        facts = environment(device)
        outer, _, inner = fact.partition(".")
        return {**facts, outer: {**facts[outer], inner: value} if inner else value}

    monkeypatch.setattr("harness.run.suite_run.environment", other)
    said = go(tmp_path, declared())
    assert {len(at) for at in times(tmp_path).values()} == {2 if again else 1}
    if again:
        assert "taken with another environment" in said[0]
        assert isinstance(value, dict) or f"{fact.rpartition('.')[2]} " in said[0]
        assert "and 0 of" in said[1]
    newest = [*records(tmp_path, Latency)][-1]
    assert (newest.environment["packages"]["torch"] == "9.9.9") is (fact == "packages.torch")


def test_a_package_of_the_runtime_that_was_timed_voids_a_latency_and_is_named(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RUNTIMES, "eager", replace(RUNTIMES["eager"], packages=("onnxruntime",)))
    first_lines = []
    for version in ("1.31", "1.32", "1.32"):
        monkeypatch.setattr("harness.run.suite_run.environment", lambda device, version=version: {
            **(facts := environment(device)), "packages": {**facts["packages"], "onnxruntime": version}})
        first_lines.append(go(tmp_path, declared())[0])
    assert ["onnxruntime 1.31 -> 1.32" in line for line in first_lines] == [False, True, False]
    assert {len(at) for at in times(tmp_path).values()} == {2}


def test_timings_of_an_earlier_version_are_void_by_name(tmp_path: Path) -> None:
    go(tmp_path, declared())
    journal = tmp_path / "runs" / "tiny" / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    old = [{key: value for key, value in line.items() if key not in ("timed_at", "environment")}
           | ({"setting": "of version 2"} if "setting" in line and line["kind"] != "measurement" else {}) for line in lines]
    journal.write_text("".join(json.dumps(line) + "\n" for line in old))
    (journal.parent / "journal.index").unlink(missing_ok=True)
    assert set(load_run(journal.parent).latency) == {c.name for c in declared().candidates}
    said = go(tmp_path, declared())
    assert "do not say which versions of torch, CUDA, driver and Sweetspot" in said[0]
    assert {len(at) for at in times(tmp_path).values()} == {2}


def test_timings_of_the_version_that_counted_the_making_are_void_by_name(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr("harness.run.candidate_files.timing_setting", partial(timing_setting, version=3))
        earlier.setattr("harness.run.costs.TIMING_VERSION", 3)
        earlier.setattr("harness.run.costs.timing_setting", lambda *of: timing_setting(*of[:4], 3))
        go(tmp_path, declared())
    said = go(tmp_path, declared())
    assert "of an earlier version, whose memory figures counted what making a candidate takes" in said[0]
    assert {len(at) for at in times(tmp_path).values()} == {2}


def test_the_page_names_the_environment_in_which_each_thing_on_it_was_made(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(tmp_path, declared("alpha=0", "alpha=1"))
    monkeypatch.setattr("harness.run.suite_run.environment", lambda device: {
        **(facts := environment(device)), "packages": {**facts["packages"], "torch": "9.9.9"}})
    go(tmp_path, declared())
    run = load_run(tmp_path / "runs" / "tiny")
    images = len(run.images)
    last, first = environments(run)
    assert ("torch 9.9.9" in last["title"], "torch 9.9.9" in first["title"]) == (True, False)
    assert last["made"] == f"{images // 3} images and 3 timings of this page"
    assert first["made"] == f"{images * 2 // 3} images and 0 timings of this page"
    (caveat,) = [sentence for sentence in recommend(run).caveats if "environments" in sentence]
    torch = environment("cpu")["packages"]["torch"]
    assert f"torch {torch} ({images * 2 // 3} images) and 9.9.9 ({images // 3} images)" in caveat
    assert "cpu" not in caveat


def test_pictures_of_several_gpus_and_of_several_flags_of_tf32_are_counted(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(tmp_path, declared("alpha=0"))
    monkeypatch.setattr("harness.run.suite_run.environment", lambda device: {
        **(facts := environment(device)), "device_name": "RTX 4090", "flags": {**facts["flags"], "cudnn_allow_tf32": "always"}})
    go(tmp_path, declared())
    run = load_run(tmp_path / "runs" / "tiny")
    third = len(run.images) // 3
    differing = pictured_otherwise(run)
    assert f"device name CPU ({third} images) and RTX 4090 ({2 * third} images)" in differing
    assert f"cudnn allow tf32 {environment('cpu')['flags']['cudnn_allow_tf32']} ({third} images) and always" in differing
    assert "matmul" not in differing


@pytest.mark.parametrize(("fact", "value"), [("git_commit", "abc"), ("python", "9.9"), ("torch_threads", 99)])
def test_environments_that_cannot_change_a_picture_are_no_caveat(
        fact: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(tmp_path, declared("alpha=0", "alpha=1"))
    monkeypatch.setattr("harness.run.suite_run.environment", lambda device: {**environment(device), fact: value})
    go(tmp_path, declared())
    assert not any("environments" in sentence for sentence in recommend(load_run(tmp_path / "runs" / "tiny")).caveats)


def test_versions_of_what_executes_candidates_are_a_caveat_where_images_of_both_are_in_a_folder(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(tmp_path, declared("alpha=0"))
    monkeypatch.setattr("harness.run.suite_run.environment", lambda device: {
        **(facts := environment(device)), "packages": {**facts["packages"], "onnxruntime": "9.9.9"}})
    go(tmp_path, declared())
    run = load_run(tmp_path / "runs" / "tiny")
    assert "onnxruntime" not in pictured_otherwise(run)
    exported = replace(run.suite, candidates=tuple(replace(c, runtime="onnxruntime") for c in run.suite.candidates))
    assert "onnxruntime" in pictured_otherwise(replace(run, suite=exported))


def test_what_an_earlier_version_did_not_record_is_said_not_guessed(tmp_path: Path) -> None:
    go(tmp_path, declared())
    run = load_run(tmp_path / "runs" / "tiny")
    old = replace(run, written_in={"": len(run.images)}, latency={})
    assert environments(old)[0]["made"].startswith(f"{len(run.images)} images")
    two = environments(replace(old, head={**run.head, "earlier_environments": [{"python": "2"}]}))
    assert [entry["made"].partition(" ")[0] for entry in two] == ["0", "0", str(len(run.images))]
    assert two[2]["title"].startswith("Not on record")


def break_timing(patch: pytest.MonkeyPatch, *names: str) -> None:
    """From here on these candidates, and no others, cannot be timed."""
    keys = {c.key for c in declared().candidates if c.name in names}

    def refuse(phases: Any, *rest: Any) -> None:
        if phases[0].key in keys:
            raise RuntimeError("the probe broke")
        pass_time(phases, *rest)

    patch.setattr("harness.run.latency.time_one", refuse)


def timed(root: Path, **options: Any) -> tuple[list[str], list[str]]:
    """A session of all candidates: whose timing failed, and what was said."""
    said: list[str] = []
    of = SuiteSession(declared(), "s.py", session_options(root, **options), Silent(), say=said.append)
    of.select(of.suite.candidates)
    try:
        assert [failure for c in of.suite.candidates for failure in of.candidate(c)] == []
        return [failure.candidate for failure in of.costs()], said
    finally:
        of.close()


def test_a_candidate_that_cannot_be_timed_fails_every_session_and_its_peers_are_timed_once(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_timing(monkeypatch, "alpha=1")
    assert timed(tmp_path)[0] == ["alpha=1"]
    again, said = timed(tmp_path)
    assert again == ["alpha=1"]
    assert any("alpha=1" in line and "once more" in line for line in said)
    assert {name: len(at) for name, at in times(tmp_path).items()} == {"alpha=0": 1, "alpha=0.5": 1}
    run = load_run(tmp_path / "runs" / "tiny")
    assert [(failure.candidate, failure.stage) for failure in run.failures] == [("alpha=1", "time")]
    break_timing(monkeypatch)
    assert timed(tmp_path)[0] == []
    assert timed(tmp_path)[0] == []
    assert {name: len(at) for name, at in times(tmp_path).items()} == {"alpha=0": 2, "alpha=0.5": 2, "alpha=1": 1}
    assert load_run(tmp_path / "runs" / "tiny").failures == ()


def test_a_batch_size_curve_that_failed_is_a_failure_in_every_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no curve")

    monkeypatch.setattr("harness.run.timer.time_batches", broken)
    whole = replace(declared("alpha=0"), largest_batch=2)
    for _ in range(2):
        of = SuiteSession(whole, "s.py", session_options(tmp_path), Silent())
        of.select(whole.candidates)
        of.candidate(whole.candidates[0])
        assert [failure.message for failure in of.costs()] == ["no curve"]
        of.close()
    assert {name: len(at) for name, at in times(tmp_path).items()} == {"alpha=0": 1}


def test_a_peer_whose_files_changed_since_does_not_have_the_others_timed_in_each_session(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go(tmp_path, declared("alpha=0"))
    real = TimedBench.weights
    monkeypatch.setattr(TimedBench, "weights", lambda bench, c: replace(real(bench, c), identity="other") if (
        c.name == "alpha=0") else real(bench, c))
    journal = tmp_path / "runs" / "tiny" / "journal.jsonl"
    journal.write_text("".join(line for line in journal.read_text().splitlines(keepends=True)
                               if '"kind":"latency"' not in line))
    for _ in range(2):
        go(tmp_path, declared(), ("alpha=0.5",))
    assert len(times(tmp_path)["alpha=0.5"]) == 1


@pytest.mark.parametrize(("untimed", "words"), [(["b"], "b was not timed"), (["b", "c"], "b and 1 more were not timed")])
def test_what_was_not_timed_is_counted_in_the_sentence(untimed: list[str], words: str) -> None:
    timed = Latency(candidate="a", batch_size=1, warmup_rounds=0, seconds={}, guidance=1.0, setting="s")
    assert words in Costs._why_apart(dict.fromkeys(["a", *untimed], "s"), {"a": timed})
