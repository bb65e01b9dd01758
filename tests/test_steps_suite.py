"""The shipped suite of steps and samplers, judged by the oracle that knows what was drawn: its front is the oracle's too. Its
seconds are not measured, but follow from the number of times that a model runs for an image."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from harness.declare import grid_of
from harness.declare.load_suite import load_suite
from harness.records import Finished, Latency
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from harness.samplers import image_work
from reports import load_run
from reports.read.run import Run
from reports.statistics.intervals import paired_difference
from reports.verdict.pareto import front_of
from reports.verdict.recommendation import Recommendation
from reports.verdict.shown_scales import shown_scales
from reports.verdict.steps import lines_of, savings
from tests.rows import row
from tests.zoo.obedience import advice, judged

__all__ = ["advice", "judged"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    patch = pytest.MonkeyPatch()
    patch.setenv("SWEETSPOT_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))
    root = tmp_path_factory.mktemp("steps")
    suite = load_suite(Path(__file__).parent.parent / "suites" / "steps.py")
    job = SuiteRun(suite, "steps.py", Options(root=root, runs=root / "runs"), Silent())
    try:
        assert all(isinstance(job.candidate(candidate), Finished) for candidate in suite.candidates)
    finally:
        job.close()
        patch.undo()
    run = load_run(root / "runs" / "steps")
    return replace(run, latency={candidate.name: as_long_as_it_works(run, candidate.name) for candidate in suite.candidates})


def as_long_as_it_works(run: Run, name: str) -> Latency:
    """Rounds on a machine with nothing else to do, where a microsecond goes into every pixel that the model evaluates."""
    scale = run.suite.grid.guidance_scales[0]
    seconds = 1e-6 * image_work(grid_of(run.suite, run.candidate(name)), scale)
    return Latency(candidate=name, batch_size=1, warmup_rounds=1, guidance=scale, yardstick=(0.005,) * 3,
                   seconds={"total": (seconds, seconds + 0.0001, seconds + 0.0002)})


def word(judged: pd.DataFrame, name: str, other: str) -> str:
    """How the oracle finds one candidate beside another."""
    named = judged.dropna(subset=["obeyed"])
    rows = [named[named["candidate"] == one] for one in (name, other)]
    return paired_difference(*rows, row("obeyed"), by=("prompt", "seed")).word


def test_the_oracle_finds_nobody_better_than_who_beats_them(run: Run, advice: Recommendation, judged: pd.DataFrame) -> None:
    beaten = [place for place in front_of(run, "objective", shown_scales(run, advice)) if place.by]
    assert "steps=4 sampler=heun" in {place.candidate for place in beaten}
    assert [place for place in beaten if word(judged, place.candidate, place.by) == "better"] == []


def test_the_fewest_tied_steps_obey_as_often_as_the_most(run: Run, advice: Recommendation, judged: pd.DataFrame) -> None:
    saved = savings(run, advice)
    assert saved
    for saving in saved:
        names = dict(saving.line.places)
        share = judged.groupby("candidate")["obeyed"].mean()
        assert word(judged, names[saving.fewest], names[saving.most]) in ("tied", "better")
        assert share[names[saving.fewest]] >= share[names[saving.most]] - 0.1


def test_the_pick_has_fewer_steps_than_the_longest_and_obeys(run: Run, advice: Recommendation, judged: pd.DataFrame) -> None:
    steps = {name: steps for line in lines_of(run) for steps, name in line.places}
    assert steps[str(advice.pick)] < max(steps.values())
    assert judged[judged["candidate"] == advice.pick]["obeyed"].mean() >= 0.85


def test_too_few_steps_of_a_higher_order_disobey(judged: pd.DataFrame) -> None:
    share = judged.groupby("candidate")["obeyed"].mean()
    assert share["steps=4 sampler=heun"] <= share["steps=20 sampler=heun"] - 0.3
    assert word(judged, "steps=4 sampler=heun", "steps=20 sampler=heun") == "worse"
