"""A run of pytest whose images are made by other processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.plugin.session import _say
from harness.records import Journal, Sample
from tests.plugin.test_plugin import write_suite

ROOT = Path(__file__).parent.parent.parent
SUITE = """
from harness import Grid, Objective, Prompt, Suite, alpha_sweep
SUITE = Suite(name="tiny", baseline="alpha=0", candidates=alpha_sweep("zoo:photo", "zoo:anime", (0, 0.5, 1)), latency_rounds=1,
    grid=Grid(prompts=[Prompt(id=name, text=f"a {name}") for name in ("star", "car", "cat", "cup")], seeds=(1, 2),
              guidance_scales=(1, 4), steps=25, width=64, height=64, batch_size=2),
    metrics=("exposure", "psnr"), objective=Objective(maximise="saturation", penalties=()))
"""


@pytest.mark.parametrize(("word", "expected"), [
    ("four", "*expected local:N, local:cuda, ray*"), ("local", "*expected local:N*"), ("local:0", "*expected local:N*"),
    ("ray:2,x", "*expected ray, ray:N*"), ("ray://head:10001", "*Ray Client*"), ("slurm:4", "*expected local:N*")])
def test_a_word_for_workers_that_means_nothing_is_refused_with_what_is_known(pytester: pytest.Pytester, word: str,
                                                                             expected: str) -> None:
    write_suite(pytester)
    result = pytester.runpytest("suites", "--benchmark", "--workers", word)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([expected])


@pytest.mark.parametrize("seconds", ["-1", "0", "soon", "nan"])
def test_a_time_limit_that_is_none_is_refused(pytester: pytest.Pytester, seconds: str) -> None:
    result = pytester.runpytest("--benchmark", "--workers", "local:2", "--worker-timeout", seconds)
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_a_time_limit_of_workers_without_workers_is_refused(pytester: pytest.Pytester) -> None:
    write_suite(pytester)
    result = pytester.runpytest("suites", "--benchmark", "--worker-timeout", "5")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--worker-timeout*without workers*"])


def begin(folder: Path, runs: str, *arguments: str) -> subprocess.Popen[str]:
    """The suite as a user runs it, in a process whose children carry a mark."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "suites", "--benchmark",
               "--runs-dir", runs, *arguments]
    return subprocess.Popen(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "SWEETSPOT_MARK": str(folder)})


def ended(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


def images(run: Path) -> dict[object, tuple[str, str]]:
    return {(s.candidate, s.cell): (s.key, s.sha256) for s in Journal(run / "journal.jsonl").read()[0] if isinstance(s, Sample)}


def marked(folder: Path) -> list[str]:
    """The processes that carry the mark."""
    mark, found = f"SWEETSPOT_MARK={folder}".encode(), []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (place / "environ").read_bytes().split(b"\0"):
                found.append(place.name)
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_two_processes_stopped_by_ctrl_c_leave_none_behind_and_go_on_to_the_run_of_one_process(tmp_path: Path) -> None:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "tiny.py").write_text(SUITE)
    ended(begin(tmp_path, "one"))
    stopped = begin(tmp_path, "many", "--workers", "local:2")
    journal, until = tmp_path / "many" / "tiny" / "journal.jsonl", time.monotonic() + 300
    while not (journal.exists() and '"kind":"sample"' in journal.read_text()):
        assert stopped.poll() is None and time.monotonic() < until, stopped.communicate()[0]
        time.sleep(0.05)
    stopped.send_signal(signal.SIGINT)
    stopped.communicate(timeout=120)
    assert stopped.returncode == pytest.ExitCode.INTERRUPTED
    assert marked(tmp_path) == []
    assert images(journal.parent).items() < images(tmp_path / "one" / "tiny").items()
    output = ended(begin(tmp_path, "many", "--workers", "local:2"))
    assert "workers" in output
    assert marked(tmp_path) == []
    assert images(journal.parent) == images(tmp_path / "one" / "tiny")
    assert (journal.parent / "table.csv").read_bytes() == (tmp_path / "one" / "tiny" / "table.csv").read_bytes()


def test_what_is_said_of_workers_is_harmless_in_a_terminal() -> None:
    lines: list[str] = []
    reporter = SimpleNamespace(write_line=lines.append)
    config: Any = SimpleNamespace(pluginmanager=SimpleNamespace(getplugin={"terminalreporter": reporter}.get))
    _say(config, "worker 1: \x1b[2J\nis gone")
    assert lines == ["worker 1: \\x1b[2J\nis gone"]
