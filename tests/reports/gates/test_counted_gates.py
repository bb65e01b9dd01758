"""Gates on counts: identities apart from coverage, the rate of failures, and values that only some suites have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.declare import Budget, Candidate, Gate, Merge
from harness.records import RUN_VALUES, Coverage, Failure, Look
from reports.gates import Verdict, failure_rate
from reports.page.tables import gate_rows
from reports.read.run import Gap, Run
from reports.statistics.intervals import cluster_mean
from reports.verdict.recommendation import Recommendation
from tests.reports.gates.test_gates import judged
from tests.rows import row

PICK = "alpha=0.45"


def tried(held: tuple[str, ...] = (), broken: tuple[str, ...] = ()) -> Coverage:
    return Coverage(candidate=PICK, stage="identities", component="unet", keys={"held": held, "broken": broken})


@pytest.mark.parametrize(("rows", "status", "reason"), [
    ((tried(("alpha 0 is A", "alpha 1 is B")),), "passed", "alpha 0 is A and alpha 1 is B hold"),
    ((tried(("alpha 0 is A",), ("alpha 1 is B",)),), "failed", "1 of 2 do not hold: alpha 1 is B"),
    ((), "not_measured", "no identity was tested"),
    ((replace(tried(), notes=("the method has none",)),), "not_measured", "no identity was tested: the method has none")])
def test_identities_hold_or_not_or_were_not_tried(merge_run: Run, merge_verdict: Recommendation, rows: tuple[Coverage, ...],
                                                  status: str, reason: str) -> None:
    verdict = judged(replace(merge_run, coverage=rows), merge_verdict, Gate(value="identities"))
    assert (verdict.status, verdict.reason) == (status, reason)


def test_identities_are_no_rows_of_coverage(merge_run: Run, merge_verdict: Recommendation) -> None:
    merged = Coverage(candidate=PICK, stage="merge", component="unet", keys={"merged": ("a",)}, of=1)
    run = replace(merge_run, coverage=(merged, tried((), ("alpha 1 is B",))))
    assert judged(run, merge_verdict, Gate(value="coverage")).status == "passed"
    alone = replace(merge_run, coverage=(tried(("alpha 0 is A",)),))
    assert judged(alone, merge_verdict, Gate(value="coverage")).status == "not_measured"


def test_a_checkpoint_has_no_identity_to_break(merge_run: Run, merge_verdict: Recommendation) -> None:
    candidates = tuple(replace(c, model="zoo:photo") if c.name == PICK else c for c in merge_run.suite.candidates)
    assert not isinstance(candidates[3].model, Merge)
    for rows in ((), (tried(),)):
        run = replace(merge_run, coverage=rows, suite=replace(merge_run.suite, candidates=candidates))
        assert judged(run, merge_verdict, Gate(value="identities")).reason == "nothing is merged"


def rate(run: Run, at_most: float) -> Verdict:
    nobody = Recommendation(kind="sweep", axis=None, pick=PICK, guidance=None, sentence="", rule="")
    return failure_rate.judge(run, nobody, Gate(value="failure_rate", at_most=at_most), PICK)


def test_no_failed_image_of_120_bounds_the_rate_as_wilson_does(merge_run: Run) -> None:
    """0 of 120: the upper end is q^2 / (n + q^2) with q = 1.96."""
    found = rate(merge_run, 0.05)
    assert (found.status, found.observed, found.low) == ("passed", 0.0, 0.0)
    assert found.high == pytest.approx(1.959964**2 / (120 + 1.959964**2), rel=1e-4)
    assert rate(merge_run, 0.01).status == "inconclusive"


def test_images_of_no_numbers_count_as_failed(merge_run: Run) -> None:
    rows = merge_run.images[merge_run.images["candidate"] == PICK]
    bad = set(rows.loc[rows["seed"] == 1, "sample"])
    run = replace(merge_run, defects=dict.fromkeys(bad, "NaN"))
    assert (rate(run, 0.05).status, rate(run, 0.05).observed) == ("failed", 0.5)
    assert rate(run, 0.05).reason == "60 of 120 images failed: 60 with NaN or infinite values"
    flags = rows.assign(broken=rows["sample"].isin(bad).astype(float))
    assert rate(run, 0.05).low == cluster_mean(flags, row("broken")).low


def lost(run: Run, count: int) -> Run:
    """The pick's last prompts were not made, because it failed."""
    mine = run.images["candidate"] == PICK
    gone = run.images[mine].tail(count).index
    failure = Failure(candidate=PICK, stage="sample", error="OutOfMemoryError", message="no memory")
    return replace(run, images=run.images.drop(gone), failures=(failure,),
                   missing=(Gap(candidate=PICK, value="image", count=count, why="sample: OutOfMemoryError"),))


def test_images_that_a_failure_left_out_count_as_failed(merge_run: Run) -> None:
    found = rate(lost(merge_run, 30), 0.05)
    assert (found.status, found.observed) == ("failed", 0.25)
    assert found.reason == "30 of 120 images failed: 30 not made (failed at \"sample\" (OutOfMemoryError: no memory))"


def test_a_race_that_failed_lost_what_its_looks_asked_for(merge_run: Run) -> None:
    """Two prompts, one seed, one scale of the 8 x 2 x 5 select cells."""
    grid = merge_run.suite.grid
    look = Look(race="r", number=1, stage="select", candidates=(PICK,), guidances=(3.0,), seeds=(1,), images=8,
                prompts=tuple(p.id for p in grid.prompts[:8]))
    images = merge_run.images
    asked = images[(images["guidance"] == 3) & (images["seed"] == 1) & images["prompt"].isin(look.prompts[:6])]
    run = replace(lost(merge_run, 30), images=asked, looks=(look,))
    assert (rate(run, 0.05).observed, rate(run, 0.05).reason.split(":")[0]) == (0.25, "2 of 8 images failed")


def test_the_rate_of_the_first_images_is_not_that_of_all(merge_run: Run) -> None:
    verdict = rate(replace(lost(merge_run, 30), failures=()), 0.05)
    assert (verdict.status, verdict.observed) == ("not_measured", None)
    assert "30 requested images missing" in verdict.reason


def test_a_candidate_without_any_image_that_did_not_fail_is_not_measured(merge_run: Run) -> None:
    run = replace(merge_run, images=merge_run.images[merge_run.images["candidate"] != PICK],
                  missing=(Gap(candidate=PICK, value="image", count=120, why="not sampled yet"),))
    assert (rate(run, 0.05).status, rate(run, 0.05).reason) == ("not_measured", "not sampled yet")


@pytest.mark.parametrize("gate", [Gate(value="failure_rate", at_least=0.1), Gate(value="failure_rate", not_worse_than="baseline"),
                                  Gate(value="failure_rate", at_most=float("nan"))])
def test_a_rate_without_an_upper_limit_is_not_measured(merge_run: Run, merge_verdict: Recommendation, gate: Gate) -> None:
    assert judged(merge_run, merge_verdict, gate).status == "not_measured"


def test_rates_and_identities_are_said_for_a_newcomer(merge_run: Run, merge_verdict: Recommendation) -> None:
    verdicts = [judged(replace(merge_run, coverage=(tried(("alpha 0 is A",)),)), merge_verdict, gate)
                for gate in (Gate(value="failure_rate", at_most=0.05), Gate(value="identities"))]
    first, second = gate_rows(merge_run, verdicts)
    assert (first["limit"], first["observed"]) == ("at most 5.0 %", "0.0 % [0.0 %, 3.1 %]")
    assert (second["value"], second["limit"], second["observed"]) == ("The merge's identities hold", "", "0")


@pytest.mark.parametrize(("at_most", "status"), [(13.6, "passed"), (13.4, "failed")])
def test_palette_drift_is_held_against_its_limit(merge_run: Run, merge_verdict: Recommendation, at_most: float,
                                                 status: str) -> None:
    """Planted: 30 times alpha, so 13.5 at 0.45, without noise."""
    gate = Gate(value="palette_drift", at_most=at_most, candidates=(PICK,))
    verdict = judged(merge_run, merge_verdict, gate)
    assert (verdict.status, verdict.observed) == (status, pytest.approx(13.5))


@pytest.mark.parametrize(("values", "status"), [((7.0, 8.0), "passed"), ((4.0, 5.0), "failed"), ((5.0, 7.0), "inconclusive")])
def test_a_rating_by_people_is_a_value_like_others(merge_run: Run, merge_verdict: Recommendation, values: tuple[float, float],
                                                   status: str) -> None:
    even = merge_run.images["prompt"].str[-1].isin(list("02468"))
    images = merge_run.images.assign(rating=even.map({True: values[0], False: values[1]}))
    run = replace(merge_run, images=images, values={**merge_run.values, "rating": RUN_VALUES["rating"]})
    assert judged(run, merge_verdict, Gate(value="rating", at_least=6, candidates=(PICK,))).status == status


def test_a_rating_nobody_gave_is_not_measured(merge_run: Run, merge_verdict: Recommendation) -> None:
    assert judged(merge_run, merge_verdict, Gate(value="rating", at_least=6)).status == "not_measured"


def test_gates_that_may_be_looked_at_again_have_wider_intervals(merge_run: Run, merge_verdict: Recommendation) -> None:
    """A budget and two seeds make two looks: 97.5 % each."""
    gate = Gate(value="clip_score", at_least=20)
    once = judged(merge_run, merge_verdict, gate)
    twice = judged(replace(merge_run, suite=replace(merge_run.suite, budget=Budget())), merge_verdict, gate)
    assert (twice.low or 0) < (once.low or 0) < (once.high or 0) < (twice.high or 0)
    rates = [rate(replace(merge_run, suite=replace(merge_run.suite, budget=b)), 0.05).high or 0 for b in (None, Budget())]
    assert rates[0] < rates[1]


def test_an_unmerged_candidate_needs_weights_to_be_called_whole(merge_run: Run, merge_verdict: Recommendation) -> None:
    bare = Candidate(name=PICK, model="zoo:photo")
    run = replace(merge_run, coverage=(tried(),), weights={}, suite=replace(merge_run.suite, candidates=(bare,), baseline=PICK))
    assert judged(run, merge_verdict, Gate(value="identities")).status == "not_measured"


def test_a_candidate_that_never_ran_has_no_count_of_failures(merge_run: Run, merge_verdict: Recommendation) -> None:
    why = "fp16 is not offered on cpu: no kernels"
    gap = Gap(candidate=PICK, value="image", count=120, why=why)
    run = replace(merge_run, images=merge_run.images[merge_run.images["candidate"] != PICK], missing=(gap,),
                  weights={name: of for name, of in merge_run.weights.items() if name != PICK})
    gate = Gate(value="failures", candidates=(PICK,), at_most=0)
    assert (judged(run, merge_verdict, gate).status, judged(run, merge_verdict, gate).reason) == ("not_measured", why)
    broken = replace(run, failures=(Failure(candidate=PICK, stage="load", error="OSError", message="gone"),))
    assert judged(broken, merge_verdict, gate).status == "failed"
    assert judged(merge_run, merge_verdict, gate).status == "passed"
