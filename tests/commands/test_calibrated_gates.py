"""Gates written as `sweetspot calibrate` advises decide as it predicts: many pairs of equal, painted candidates are judged.

The painted images of two candidates are independent draws of one distribution, so no candidate is better than another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import Grid, Prompt, Suite, alpha_sweep
from harness.cli import main
from harness.commands.calibrate import _tie
from harness.declare import BASELINE, Gate, Objective
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from reports import judge, load_run, recommend
from reports.gates import PASSED
from reports.read.run import Run
from reports.verdict.sentences import tied_in_words
from tests.painted import paint_runs
from tests.race.painted import DeclaredBench

PAIRS = 36
ALPHAS = tuple(round(i / (2 * PAIRS), 4) for i in range(2 * PAIRS + 1))
NAMES = [c.name for c in alpha_sweep("zoo:photo", "zoo:anime", ALPHAS)]
GATES = (Gate(value="objective", not_worse_than=BASELINE, margin=0.11, candidates=("alpha=1",)),
         Gate(value="objective", not_worse_than=BASELINE, ratio=0.8, candidates=("alpha=1",)),
         Gate(value="saturation", at_least=0.3, candidates=("alpha=1",)))


def declared(name: str, prompts: int, alphas: tuple[float, ...], *gates: Gate) -> Suite:
    grid = Grid(prompts=[Prompt(id=f"p{i}", text=f"cat no. {i}") for i in range(prompts)], seeds=(1, 2), guidance_scales=(3.0,),
                width=32, height=32, steps=2)
    return Suite(name=name, candidates=alpha_sweep("zoo:photo", "zoo:anime", alphas), baseline="alpha=0", grid=grid,
                 metrics=("exposure",), objective=Objective(maximise="saturation", penalties=()), gates=gates, latency_rounds=1)


def calibrated(confidence: float) -> list[dict[str, Any]]:
    """The rows of a calibration with many seeds, so that the noise is known well."""
    Path("suite.py").write_text("from tests.commands.test_calibrated_gates import GATES, declared\n"
                                "SUITE = declared('aa', 8, (0, 1), *GATES)\n")
    assert main(["calibrate", "suite.py", "--repeats", "20", "--confidence", str(confidence)]) == 0
    rows = json.loads(Path("runs/aa.calibration/calibration.json").read_text())["rows"]
    return [row for row in rows if row["gate"]]


def judged(prompts: int, *gates: Gate) -> Run:
    """A run of many candidates that do not differ, with these gates."""
    suite = declared("many", prompts, ALPHAS, *gates)
    run = SuiteRun(suite, "many.py", Options(root=Path.cwd(), runs=Path("runs").resolve(), device="cpu"), Silent())
    try:
        for candidate in suite.candidates:
            run.candidate(candidate)
    finally:
        run.close()
    return load_run(run.folder)


def in_pairs(gate: Gate) -> tuple[Gate, ...]:
    """The gate on one candidate of each pair; of a comparison with the other one."""
    pairs = zip(NAMES[1::2], NAMES[2::2], strict=True)
    return tuple(replace(gate, candidates=(one,), not_worse_than=gate.not_worse_than and other) for one, other in pairs)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    paint_runs(monkeypatch, DeclaredBench)
    monkeypatch.setattr(SuiteRun, "preflight", lambda _: [])  # there are no model files, and nothing to time
    monkeypatch.setattr(SuiteRun, "costs", lambda *_: [])


def test_margins_and_ratios_pass_as_often_as_asked_and_limits_as_predicted() -> None:
    difference, ratio, limit = calibrated(0.7)
    gates = [eval(row["paste"], {"Gate": Gate, "BASELINE": BASELINE}) for row in (difference, ratio)]
    many = judged(8, *(pair for gate in gates for pair in in_pairs(gate)))
    statuses = [verdict.status == PASSED for verdict in judge(many, recommend(many))]
    shares = [np.mean(statuses[:PAIRS]), np.mean(statuses[PAIRS:])]
    # Of 36 pairs; a margin is written with two digits, rounded up.
    assert shares == pytest.approx([0.74, 0.74], abs=0.16)
    mean = many.images["saturation"].mean()
    at = replace(many, suite=replace(many.suite, gates=tuple(
        Gate(value="saturation", at_least=float(mean - limit["smallest"]), candidates=(name,)) for name in NAMES)))
    assert np.mean([v.status == PASSED for v in judge(at, recommend(at))]) == pytest.approx(0.7, abs=0.12)


def test_with_the_prompts_that_it_names_the_declared_margin_passes() -> None:
    count = calibrated(0.7)[0]["prompts"]
    assert 8 < count < 24
    many = judged(count, *in_pairs(GATES[0]))
    assert np.mean([v.status == PASSED for v in judge(many, recommend(many))]) == pytest.approx(0.7, abs=0.16)


def test_the_tie_is_said_in_the_words_of_the_report() -> None:
    many = judged(4)
    rec = recommend(many)
    tied, words = _tie(rec)
    assert words.startswith(tied_in_words(rec))
    assert f"{len(tied)} of {len(rec.cells)} cells" in words
    assert any(tied_in_words(rec) in reason for reason in rec.reasons)
