"""`sweetspot try`: measures, writes the suite, and ends as the benchmark does."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import Suite, zoo
from harness.check.expected_time import Pace
from harness.cli import main
from harness.declare.load_suite import load_suite
from harness.first_suite import pace
from harness.first_suite.given_files import UnfitFileError, look


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """In place of the benchmark, which fails a gate; the pace is 0.01 s an image."""
    calls: list[list[str]] = []
    monkeypatch.setattr("pytest.main", lambda words: calls.append(words) or 1)
    monkeypatch.setattr("harness.commands.try_.seconds_per_image", lambda *_: 0.01)
    return calls


def test_it_writes_the_suite_runs_it_and_ends_with_the_benchmarks_exit_code(called: list[list[str]]) -> None:
    assert main(["try", "zoo:photo", "zoo:anime", "--device", "cpu", "--runs-dir", "r"]) == 1
    assert called[0][:6] == ["suites/photo_anime.py", "--benchmark", "--device", "cpu", "--runs-dir", "r"]
    suite = load_suite(Path("suites/photo_anime.py"))
    assert isinstance(suite, Suite)
    assert suite.budget is not None


def test_what_loads_for_some_seconds_is_named_before(called: list[list[str]], monkeypatch: pytest.MonkeyPatch,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("pytest.main", lambda _: print("THE BENCHMARK") or 0)
    assert main(["try", "zoo:photo", "zoo:anime"]) == 0
    *_, before, _ = capsys.readouterr().out.partition("THE BENCHMARK")[0].split("\n")
    assert "torch" in before


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The built-in models, taken for a user's own, whose images may take long."""
    monkeypatch.setattr("harness.commands.init.look", lambda *given: ([replace(m, built_in=False) for m in look(*given)[0]], []))
    return ["zoo:photo", "zoo:anime", "--clip", "zoo:clip", "--size", "64", "--device", "cpu"]


def test_of_a_fast_model_more_is_asked(called: list[list[str]], foreign: list[str]) -> None:
    assert main(["try", *foreign]) == 1
    suite = load_suite(Path("suites/photo_anime.py"))
    assert isinstance(suite, Suite)
    assert (len(suite.grid.seeds), len(suite.candidates)) == (2, 6)


def test_the_same_command_again_goes_on_with_its_suite_without_measuring(called: list[list[str]],
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    main(["try", "zoo:photo", "zoo:anime"])
    before = Path("suites/photo_anime.py").read_bytes()
    monkeypatch.setattr("harness.commands.try_.seconds_per_image", lambda *_: pytest.fail("measured again"))
    assert main(["try", "zoo:photo", "zoo:anime"]) == 1
    assert Path("suites/photo_anime.py").read_bytes() == before


def test_an_edited_suite_is_not_run(called: list[list[str]]) -> None:
    main(["try", "zoo:photo", "zoo:anime"])
    Path("suites/photo_anime.py").write_text(Path("suites/photo_anime.py").read_text() + "# mine\n")
    assert main(["try", "zoo:photo", "zoo:anime"]) == 2
    assert len(called) == 1


def test_files_that_do_not_fit_and_unknown_devices_end_with_2(called: list[list[str]],
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["try", "none.safetensors"]) == 2
    assert main(["try", "zoo:photo", "zoo:anime", "--device", "cuda:99"]) == 2
    assert "--device: device cuda:99" in capsys.readouterr().err
    assert main(["init", "zoo:photo", "zoo:anime", "--device", "cuda:99x"]) == 2
    assert "unknown device 'cuda:99x'" in capsys.readouterr().err
    assert not called


def test_a_slow_machine_is_told_what_would_fit(called: list[list[str]], monkeypatch: pytest.MonkeyPatch, foreign: list[str],
                                              capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("harness.commands.try_.seconds_per_image", lambda *_: 500.0)
    assert main(["try", *foreign, "--minutes", "5"]) == 2
    assert "give --minutes" in capsys.readouterr().err
    assert not Path("suites").exists()


def test_the_pace_is_that_of_an_earlier_run_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "pace", lambda *_: Pace(seconds_per_image=2.5, images=10, run="before"))
    said: list[str] = []
    unused: Any = None
    assert pace.seconds_per_image(unused, Path("x.py"), Path("runs"), "cpu", said.append) == 2.5
    assert "as in before" in said[0]


@pytest.mark.parametrize(("output", "error"), [
    ('sweetspot-pace {"error": "candidate x: no model"}\n', "no image could be made: candidate x: no model"),
    ("", "no image could be made: Killed")])
def test_a_failed_measurement_is_passed_on(output: str, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = SimpleNamespace(stdout=f"noise\n{output}", stderr="warning\nKilled\n", returncode=-9)
    monkeypatch.setattr(pace.subprocess, "run", lambda *_, **__: done)
    monkeypatch.setattr(pace, "pace", lambda *_: None)
    unused: Any = None
    with pytest.raises(UnfitFileError, match=error):
        pace.seconds_per_image(unused, Path("x.py"), Path("runs"), "cpu", lambda _: None)


def test_a_few_images_are_made_to_measure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "zoo:photo", "zoo:anime", "--steps", "1", "--to", "suites/s.py"]) == 0
    assert pace.main("suites/s.py", "cpu") == 0
    assert '{"seconds": 0.' in capsys.readouterr().out
    Path("suites/s.py").write_text(Path("suites/s.py").read_text().replace("zoo:photo", "gone.safetensors"))
    assert pace.main("suites/s.py", "cpu") == 1
    assert "gone.safetensors" in capsys.readouterr().out


def test_prompts_of_several_lengths_and_along_the_steps_can_be_measured(capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.txt").write_text("a cat\n[a cat:a dog:0.5]\n" + ", ".join(["a red ball on the grass"] * 8) + "\na [red|blue] car\n")
    assert main(["init", "zoo:photo", "zoo:anime", "--steps", "2", "--prompts", "p.txt", "--syntax", "a1111",
                 "--to", "suites/s.py"]) == 0
    assert pace.main("suites/s.py", "cpu") == 0, capsys.readouterr().out


def test_adapters_that_prompts_name_are_part_of_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("loras").mkdir()
    shutil.copy(zoo.resolve("zoo:sketch"), "loras/sketch.safetensors")
    Path("p.txt").write_text("\n".join(f"a {animal} <lora:sketch:0.8>" for animal in ("cat", "dog", "horse", "hen")))
    assert main(["init", "zoo:photo", "zoo:anime", "--prompts", "p.txt", "--syntax", "a1111", "--adapter-folder", "loras",
                 "--to", "suites/s.py"]) == 0
    measured: list[Suite] = []
    monkeypatch.setattr(pace, "measured", lambda suite, _: measured.append(suite) or 1.0)
    assert pace.main("suites/s.py", "cpu") == 0
    assert all(candidate.adapters for candidate in measured[0].candidates)


@pytest.mark.parametrize("seconds", [0.01, 30.0])
def test_of_built_in_models_too_no_more_is_asked_than_few_minutes_hold(called: list[list[str]], monkeypatch: pytest.MonkeyPatch,
                                                                      seconds: float) -> None:
    monkeypatch.setattr("harness.commands.try_.seconds_per_image", lambda *_: seconds)
    assert main(["try", "zoo:photo", "zoo:anime", "--minutes", "1"]) == (1 if seconds < 1 else 2)
    assert bool(called) == (seconds < 1)
