"""A suite of the zoo through the harness, promoted and run again: gates that pass, fail and stay undecided by construction."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from harness import PROMOTED, Candidate, Desirability, Gate, Objective, Suite, alpha_sweep
from harness.cli import main
from harness.declare import plain
from harness.promotion import PromotionError, gather
from harness.promotion.copy_baseline import take_promoted
from harness.promotion.eligibility import refuse_changed_suite
from harness.records import Finished
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from reports import judge, load_run, recommend
from reports.gates import Verdict
from tests.fakes import PROMPTS, tiny_grid, tiny_suite

SUITE_FILE = """
from harness.declare import restore
import json
SUITE = restore(json.loads({text!r}))
"""
SCORE = Objective(maximise="desirability", penalties=(), desirabilities=(
    Desirability(metric="clip_score", worst=0, best=40), Desirability(metric="clipped_share", worst=1, best=0, weight=0.5)))
FIRST = (Gate(value="coverage"), Gate(value="clip_score", not_worse_than=PROMOTED, candidates=("alpha=0",)))
TWIN = ("photo",)
OTHER = ("alpha=1",)


def gated(*gates: Gate) -> Suite:
    """Two merges, and as `photo` the parent that alpha=0 is to the last bit."""
    candidates = (*alpha_sweep("zoo:photo", "zoo:anime", (0, 1)), Candidate(name="photo", model="zoo:photo"))
    return tiny_suite(name="gated", candidates=candidates, gates=gates, objective=SCORE)


def go(root: Path, suite: Suite) -> list[int]:
    """Runs the suite in `root`; how many images were sampled for each candidate."""
    job = SuiteRun(suite, "suites/gated.py", Options(root=root, runs=root / "runs"), Silent())
    try:
        done = [job.candidate(candidate) for candidate in suite.candidates]
        assert all(isinstance(one, Finished) for one in done), done
        return [one.sampled for one in done if isinstance(one, Finished)]
    finally:
        job.close()


def verdicts(root: Path) -> list[Verdict]:
    run = load_run(root / "runs" / "gated")
    return judge(run, recommend(run))


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory after the suite's first run and the promotion of alpha=0."""
    root = tmp_path_factory.mktemp("zoo gates")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEETSPOT_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))
        patch.chdir(root)
        (root / "suites").mkdir()
        (root / "suites" / "gated.py").write_text(SUITE_FILE.format(text=json.dumps(plain(gated(*FIRST)))))
        assert go(root, gated(*FIRST)) == [10, 10, 10]
        assert "nothing was promoted" in take_promoted(root / "models/baselines/gated.json", root / "runs/gated")
        assert [v.status for v in verdicts(root)] == ["passed", "not_measured"]
        assert main(("promote", "alpha=0", "--run", "runs/gated", "--as", "blend")) == 0
    return root


@pytest.fixture
def work(promoted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it for one test, with the promoted values in the run folder."""
    shutil.copytree(promoted, tmp_path / "work")
    monkeypatch.setenv("SWEETSPOT_CACHE", str(promoted.parent / "zoo-cache"))
    said = take_promoted(tmp_path / "work/models/baselines/gated.json", tmp_path / "work/runs/gated")
    assert said.startswith("baseline: blend version 1 (candidate 'alpha=0')")
    return tmp_path / "work"


CASES = [
    (Gate(value="coverage", candidates=TWIN), "passed"),
    (Gate(value="failures", at_most=0, candidates=OTHER), "passed"),
    (Gate(value="clip_score", not_worse_than="alpha=0", candidates=TWIN), "passed"),
    (Gate(value="desirability", not_worse_than="alpha=0", ratio=1.0, candidates=TWIN), "passed"),
    (Gate(value="exact_match", not_worse_than=PROMOTED, candidates=TWIN), "passed"),
    (Gate(value="objective", not_worse_than=PROMOTED, ratio=1.0, candidates=TWIN), "passed"),
    (Gate(value="palette_drift", at_most=0, candidates=TWIN), "passed"),
    (Gate(value="palette_drift", at_most=0, candidates=OTHER), "failed"),
    (Gate(value="clip_score", at_least=101, candidates=OTHER), "failed"),
    (Gate(value="exact_match", not_worse_than=PROMOTED, candidates=OTHER), "failed"),
    (Gate(value="failure_rate", at_most=0.1, candidates=OTHER), "inconclusive"),
    (Gate(value="peak_bytes", not_worse_than=PROMOTED, ratio=1.1, candidates=TWIN), "not_measured")]


def test_gates_of_every_outcome_come_out_as_built(work: Path) -> None:
    """The parent is alpha=0 bit for bit; no image of the other parent is; ten sound images do not show a rate below 10 %."""
    suite = gated(*(gate for gate, _ in CASES))
    assert go(work, suite) == [0, 0, 0]
    assert [(v.gate, v.status) for v in verdicts(work)] == [(suite.gate_name(gate), status) for gate, status in CASES]


def test_a_limit_within_the_interval_stays_undecided_and_more_doubt_is_not_a_pass(work: Path) -> None:
    """The limit is put on what was observed, which every interval includes."""
    go(work, gated(Gate(value="clip_score", at_least=0, candidates=OTHER)))
    observed = verdicts(work)[0].observed
    go(work, gated(Gate(value="clip_score", at_least=observed, candidates=OTHER)))
    assert verdicts(work)[0].status == "inconclusive"


def test_the_second_run_is_compared_cell_by_cell_with_what_was_promoted(work: Path) -> None:
    gate = Gate(value="clip_score", not_worse_than=PROMOTED, candidates=TWIN)
    go(work, gated(gate))
    verdict = verdicts(work)[0]
    assert (verdict.observed, verdict.low, verdict.high) == (0.0, 0.0, 0.0)
    assert verdict.reason.endswith("minus blend version 1 (alpha=0; 5 of 5 cells comparable)")


def test_a_prompt_that_was_rewritten_since_is_left_out_of_it(work: Path) -> None:
    prompts = (replace(PROMPTS[0], text="a yellow star"), *PROMPTS[1:])
    gate = Gate(value="clip_score", not_worse_than=PROMOTED, candidates=TWIN)
    assert go(work, replace(gated(gate), grid=tiny_grid(prompts=prompts))) == [2, 2, 2]
    verdict = verdicts(work)[0]
    assert verdict.status == "passed"
    assert "4 of 5 cells comparable; 1 prompt changed, 0 new" in verdict.reason


def test_a_second_promotion_must_pass_what_the_first_could_not_be_asked(work: Path, monkeypatch: pytest.MonkeyPatch,
                                                                        capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the run folder does not know what was promoted meanwhile."""
    monkeypatch.chdir(work)
    go(work, gated(*FIRST))
    (work / "runs/gated/baseline.json").unlink()
    assert main(("promote", "alpha=0", "--run", "runs/gated", "--as", "blend")) == 1
    assert "is not measured" in capsys.readouterr().err
    take_promoted(work / "models/baselines/gated.json", work / "runs/gated")
    assert main(("promote", "alpha=0", "--run", "runs/gated", "--as", "blend")) == 0


def test_candidates_that_a_race_added_are_no_change_of_the_suite_file(work: Path) -> None:
    head = work / "runs/gated/run.json"
    data = json.loads(head.read_text())
    added = {**data["suite"]["candidates"][0], "name": "alpha=0.25", "axes": {"alpha": 0.25}}
    data["suite"]["candidates"].insert(1, added)
    for names, refused in ((["alpha=0.25"], False), ([], True)):
        head.write_text(json.dumps({**data, "added": names}))
        evidence = gather(work / "runs/gated", "alpha=0")
        with pytest.raises(PromotionError, match="candidates") if refused else nullcontext():
            refuse_changed_suite(evidence, work / "suites/gated.py", work)


def test_a_fitted_batch_size_is_no_change_of_the_suite_file(work: Path) -> None:
    head = work / "runs/gated/run.json"
    data = json.loads(head.read_text())
    file = work / "suites/fit.py"
    grid = {**data["suite"]["grid"], "batch_size": "fit"}
    file.write_text(SUITE_FILE.format(text=json.dumps({**data["suite"], "grid": grid})))
    for size, refused in ((data["suite"]["grid"]["batch_size"], False), (2, True)):
        head.write_text(json.dumps({**data, "fitted_batch": {"batch_size": size}}))
        evidence = gather(work / "runs/gated", "alpha=0")
        with pytest.raises(PromotionError, match="grid") if refused else nullcontext():
            refuse_changed_suite(evidence, file, work)
