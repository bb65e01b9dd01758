"""Runs, merges and commands with files of the hub: fetched when allowed, refused when not, recorded at their commits."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import Candidate, Checkpoint, Merge, Objective, Suite, zoo
from harness.cli import COMMANDS, main
from harness.hub import caches
from harness.run.suite_run import SuiteRun
from harness.session.from_python import DeclarationError, run_suite
from harness.weights import read_header
from tests.fakes import tiny_suite
from tests.hub.small_hub import COMMIT, SmallHub, only_hub
from tests.painted import paint_runs
from tests.plugin.test_plugin import loaded, zoo_cache

__all__ = ["loaded", "zoo_cache"]
OTHER = COMMIT[::-1]
ANIME = "hub:o/n:anime.safetensors"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    monkeypatch.chdir(tmp_path)
    files = {f"o/n/{name}.safetensors": zoo.resolve(f"zoo:{name}").read_bytes() for name in ("anime", "photo", "sketch")}
    with only_hub(files, tmp_path / "hub", monkeypatch) as hub:
        yield hub


@pytest.fixture
def painted(hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    paint_runs(monkeypatch)
    monkeypatch.setattr(SuiteRun, "costs", lambda *_: [])
    monkeypatch.setattr("reports.page.build.FIGURES", {})


def suite(model: str = ANIME) -> Suite:
    candidates = (Candidate(name="photo", model="zoo:photo"), Candidate(name="anime", model=Checkpoint(
        path=model, config="zoo:config")), Candidate(name="both", model=Merge(a="zoo:photo", b=model, alpha=0.5)))
    return tiny_suite(candidates=candidates, baseline="photo", metrics=("psnr", "clip_score"), gates=(),
                      objective=Objective(penalties=()), clip="zoo:clip")


def fetch(*words: str) -> None:
    assert main(["fetch", *words]) == 0


def run_json() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("runs/tiny/run.json").read_text())
    return found


def test_nothing_is_fetched_unless_it_is_allowed(hub: SmallHub, painted: None) -> None:
    with pytest.raises(DeclarationError, match=f"sweetspot fetch {ANIME};"):
        run_suite(suite(), progress=False)
    assert hub.requests == []
    assert not Path("runs").exists()


def test_what_is_allowed_is_fetched_before_the_first_image_and_recorded_at_its_commit(hub: SmallHub, painted: None) -> None:
    run = run_suite(suite(), progress=False, allow_download=True)
    assert run.complete
    assert hub.downloads == 1
    models = [candidate["model"] for candidate in run_json()["suite"]["candidates"]]
    assert models[1]["path"] == models[2]["b"] == f"hub:o/n@{COMMIT}:anime.safetensors"
    hub.files = {}
    assert run_suite(suite(), progress=False).complete


def test_a_branch_that_moved_is_said_and_the_same_content_is_not_made_again(hub: SmallHub, painted: None,
                                                                           capsys: pytest.CaptureFixture[str]) -> None:
    run_suite(suite(), progress=False, allow_download=True)
    hub.commit = OTHER
    fetch(ANIME)
    capsys.readouterr()
    run_suite(suite())
    err = capsys.readouterr().err
    assert f"{ANIME} was at commit {COMMIT[:12]} and is now at {OTHER[:12]}" in err
    assert "reused" in err or run_json()["suite"]["candidates"][1]["model"]["path"] == f"hub:o/n@{OTHER}:anime.safetensors"
    journal = [json.loads(line) for line in Path("runs/tiny/journal.jsonl").read_text().splitlines()]
    assert [record["sampled"] for record in journal if record.get("kind") == "finished"][3:] in ([], [0, 0, 0])


def test_three_spellings_of_one_file_are_one_run(hub: SmallHub, painted: None) -> None:
    run_suite(suite(), progress=False, allow_download=True)
    for spelled in (f"hub:o/n@{COMMIT}:anime.safetensors",
                    str(caches()[0] / "models--o--n" / "snapshots" / COMMIT / "anime.safetensors")):
        run_suite(suite(spelled), progress=False)
    samples = [line for line in Path("runs/tiny/journal.jsonl").read_text().splitlines() if line.startswith('{"kind":"sample"')]
    assert len(samples) == len(set(samples)) == suite().images


def test_a_download_that_fails_is_a_problem_of_the_suite(hub: SmallHub, painted: None) -> None:
    hub.status, hub.code = 401, "GatedRepo"
    with pytest.raises(DeclarationError, match=r"suite 'tiny': hub:o/n at main could not be listed: .*accept its terms"):
        run_suite(suite(), progress=False, allow_download=True)


@pytest.mark.parametrize("words", [["inspect", ANIME], ["merge", "--a", "zoo:photo", "--b", ANIME, "--dry-run"],
                                   ["adapter", "convert", "--model", ANIME, "zoo:sketch", "-o", "a.safetensors"]])
def test_offline_and_allowed_at_once_is_refused(hub: SmallHub, monkeypatch: pytest.MonkeyPatch, words: list[str],
                                                capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main([*words, "--allow-download"]) != 0
    assert "HF_HUB_OFFLINE=1" in capsys.readouterr().err
    assert hub.requests == []


SKETCH = "hub:o/n:sketch.safetensors"
LINES = {
    "inspect": ["inspect", ANIME],
    "merge": ["merge", "--a", "zoo:photo", "--b", ANIME, "--alpha", "0.5", "--dry-run"],
    "merge an adapter": ["merge", "--a", ANIME, "--adapter", f"{SKETCH}=0.5", "--dry-run"],
    "adapter convert": ["adapter", "convert", "--model", ANIME, SKETCH, "-o", "out.safetensors"],
    "adapter merge": ["adapter", "merge", "--model", ANIME, f"{SKETCH}=0.5", "zoo:sketch", "-o", "out.safetensors"],
    "adapter resize": ["adapter", "resize", "--model", ANIME, SKETCH, "--rank", "1", "-o", "out.safetensors"],
    "adapter extract": ["adapter", "extract", "--base", "zoo:photo", "--tuned", ANIME, "--rank", "1", "-o", "out.safetensors"],
    "init": ["init", ANIME, "zoo:photo", "--device", "cpu"],
    "init with an adapter": ["init", ANIME, "--lora", SKETCH, "--device", "cpu"],
    "plan": ["plan", "suite.py", "--device", "cpu", "--memory", "64GiB"],
    "quantize": ["quantize", "suite.py", "--candidate", "anime", "--out", "x.safetensors"],
}


@pytest.mark.parametrize("name", [*LINES])
def test_a_command_takes_an_address_and_fetches_it_only_when_allowed(hub: SmallHub, name: str,
                                                                    capsys: pytest.CaptureFixture[str]) -> None:
    Path("suite.py").write_text("from tests.hub.test_runs import suite\nSUITE = suite()\n")
    words = LINES[name]
    assert main(words) != 0
    err = capsys.readouterr().err
    command = re.search(r"sweetspot (fetch hub:o/n:\w+\.safetensors)", err)
    assert command is not None, err
    assert hub.requests == []
    if name != "quantize":  # which takes as long as everything else here
        assert main([*words, "--allow-download"]) == 0
        assert hub.downloads >= 1


def test_every_command_that_reads_models_may_be_allowed_to_fetch_them(capsys: pytest.CaptureFixture[str]) -> None:
    without = {"fetch", "blind", "clean", "compare", "history", "images", "report", "rollback", "trend", "verify", "work"}
    for name in COMMANDS:
        with pytest.raises(SystemExit):
            main([name, *(["convert"] if name == "adapter" else []), "--help"])
        assert ("--allow-download" in capsys.readouterr().out) == (name not in without), name


def test_a_merge_of_addresses_is_made_again_from_its_record(hub: SmallHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", "--a", "hub:o/n:photo.safetensors", "--b", ANIME, "--alpha", "0.5", "-o", "out.safetensors",
                 "--allow-download"]) == 0
    inputs = json.loads(read_header(Path("out.safetensors"))[1]["sweetspot.inputs"])
    assert [*inputs] == [f"hub:o/n@{COMMIT}:{name}.safetensors" for name in ("photo", "anime")]
    hub.commit = OTHER
    fetch("hub:o/n:photo.safetensors")  # the branch moves on, the record does not
    assert main(["replay", "out.safetensors"]) == 0
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    capsys.readouterr()
    assert main(["replay", "out.safetensors"]) == 1
    err = capsys.readouterr().err
    command = re.search(r"sweetspot (fetch) (hub:\S+);", err)
    assert command is not None
    hub.commit = COMMIT
    assert main(["replay", "out.safetensors", "--allow-download"]) == 0


@pytest.mark.parametrize("name", ["hub:o/n:photo.safetensors", "hub:o/n@main:photo.safetensors", f"hub:o/n@{COMMIT}:../x",
                                  f"hub:../n@{COMMIT}:x"])
def test_a_record_with_an_address_that_is_not_at_a_commit_is_refused(hub: SmallHub, name: str,
                                                                    capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.numpy import load_file, save_file

    fetch("hub:o/n:photo.safetensors")
    assert main(["merge", "--a", "hub:o/n:photo.safetensors", "--b", "zoo:anime", "--alpha", "0.5", "-o", "out.safetensors"]) == 0
    header = {key: text.replace(f"hub:o/n@{COMMIT}:photo.safetensors", name)
              for key, text in read_header(Path("out.safetensors"))[1].items()}
    save_file(load_file("out.safetensors"), "out.safetensors", header)
    assert main(["replay", "out.safetensors"]) == 1
    assert "is not the name of a file" in capsys.readouterr().err


def test_pytest_fetches_with_the_option_alone(hub: SmallHub, painted: None, pytester: pytest.Pytester) -> None:
    (pytester.mkdir("suites") / "tiny.py").write_text("from tests.hub.test_runs import suite\nSUITE = suite()\n")
    result = pytester.runpytest_inprocess("suites", "--benchmark")
    assert hub.requests == []
    result.stdout.fnmatch_lines([f"*suite 'tiny'*'anime'*sweetspot fetch {ANIME}*"])
    pytester.runpytest_inprocess("suites", "--benchmark", "--allow-download", "--collect-only")
    pytester.runpytest_inprocess("suites", "--benchmark", "--allow-download", "-k", "nothing")
    assert hub.requests == []
    result = pytester.runpytest_inprocess("suites", "--benchmark", "--allow-download", "-k", "declaration or candidate")
    result.stdout.fnmatch_lines(["*fetching 1 file of o/n*"])
    result.assert_outcomes(passed=4, deselected=2)
    assert hub.downloads == 1
