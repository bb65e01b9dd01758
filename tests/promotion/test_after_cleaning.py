"""After `sweetspot clean --yes` every command does what it did: nothing that any of them needs is gone."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.declare import plain
from harness.records import Finished
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from reports.read.blind_files import read_keys
from tests.promotion.conftest import SUITE_FILE, suite
from tests.reports.answered import exported

STAYING = ("alpha=0", "alpha=0.5", "alpha=1")


@pytest.mark.slow
def test_every_command_works_after_cleaning(work, sweetspot):
    root = work()
    promote = ("--run", "runs/tiny", "--as", "blend")
    assert sweetspot("promote", "alpha=0.5", *promote)[0] == 0
    assert sweetspot("blind", "runs/tiny", "--candidates", "alpha=0.5,adapted", "--prompts", "1", "--seed", "3")[0] == 0
    smaller = replace(suite(), candidates=tuple(c for c in suite().candidates if c.name in STAYING))
    (root / "suites/tiny.py").write_text(SUITE_FILE.format(text=json.dumps(plain(smaller))))
    assert [one.sampled for one in run_again(root, smaller)] == [0, 0, 0]
    before = set(root.rglob("*.png"))
    code, _, err = sweetspot("clean", "--yes")
    assert (code, err) == (0, "")
    gone = before - set(root.rglob("*.png"))
    assert gone
    assert {path.parent.name for path in gone} <= {"adapted", "quantized", "by-step", "emphasised", "few"}

    assert sweetspot("report", "runs/tiny")[0] == 0
    assert [one.sampled for one in run_again(root, smaller)] == [0, 0, 0]
    assert sweetspot("verify", "blend")[0] == 0
    assert sweetspot("promote", "alpha=0", *promote)[0] == 0
    assert sweetspot("rollback", "blend")[0] == 0
    assert sweetspot("history", "blend")[0] == 0
    (weights, *_) = Path("models/objects").iterdir()
    assert sweetspot("replay", str(weights), "--models", "parents")[0] == 0
    (key,) = read_keys(Path("runs/tiny"))[0].values()
    answers = exported(root / "ann.json", key, "Ann", dict.fromkeys(key.shows, 5))
    assert sweetspot("blind", "runs/tiny", "--take", str(answers))[0] == 0
    assert sweetspot("images", "runs/tiny", "--candidate", "alpha=1", "--to", "out")[0] == 0
    assert sweetspot("clean")[1].splitlines()[-1] == "nothing to remove"


def run_again(root: Path, of) -> list[Finished]:
    job = SuiteRun(of, "suites/tiny.py", Options(root=root, runs=root / "runs"), Silent())
    try:
        done = [job.candidate(candidate) for candidate in of.candidates]
    finally:
        job.close()
    assert all(isinstance(one, Finished) for one in done), done
    return done
