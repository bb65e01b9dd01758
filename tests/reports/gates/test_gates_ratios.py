"""Gates with a ratio: on values of images by Fieller's interval, on latency round by round, on memory exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness.declare import Gate
from reports.gates import Verdict, decide
from reports.gates.ratios import ratio_of_means, times
from reports.page.tables import gate_rows
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation
from tests.reports.gates.test_gates import judged
from tests.rows import row


def tables(mine: np.ndarray, theirs: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two candidates' values, (prompts, seeds)."""
    places = [{"prompt": f"p{p}", "seed": s, "guidance": 3.0} for p in range(mine.shape[0]) for s in range(mine.shape[1])]
    frame = pd.DataFrame(places)
    return frame.assign(v=mine.ravel()), frame.assign(v=theirs.ravel())


def test_the_ratio_of_equal_images_is_one_without_width() -> None:
    values = np.random.default_rng(1).uniform(20, 30, (6, 2))
    found = ratio_of_means(*tables(values, values), "v")
    assert (found.mean, found.low, found.high) == pytest.approx((1, 1, 1))


def test_the_interval_of_a_ratio_holds_exactly_those_ratios_that_the_difference_cannot_exclude() -> None:
    """The ends are where the paired difference mine - r x other's has 0 at its end."""
    rng = np.random.default_rng(2)
    theirs = rng.uniform(20, 30, (8, 2))
    mine, other = tables(0.9 * theirs + rng.normal(0, 1, (8, 2)), theirs)
    found = ratio_of_means(mine, other, "v")
    assert times(mine, other, row("v"), found.high or 0).high == pytest.approx(0, abs=1e-9)
    assert times(mine, other, row("v"), found.low or 0).low == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_ratio_shown_and_difference_that_decides_agree(seed: int) -> None:
    rng = np.random.default_rng(seed)
    theirs = rng.uniform(5, 30, (5, 2))
    mine, other = tables(theirs * rng.uniform(0.8, 1.2) + rng.normal(0, 2, (5, 2)), theirs)
    shown, decisive = ratio_of_means(mine, other, "v"), times(mine, other, row("v"), 1.05)
    if shown.low is not None:
        assert decide(shown.low, shown.high, at_most=1.05) == decide(decisive.low, decisive.high, at_most=0.0)


def test_the_interval_of_a_ratio_covers_the_true_one_in_95_of_100_runs() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(150):
        theirs = 10 + rng.normal(0, 3, (8, 1))
        found = ratio_of_means(*tables(0.8 * theirs + rng.normal(0, 1, (8, 1)), theirs), "v")
        hits += found.low is not None and found.high is not None and found.low <= 0.8 <= found.high
    assert 0.91 <= hits / 150 <= 0.99


def test_a_ratio_to_what_may_be_nothing_has_no_interval_but_a_verdict() -> None:
    """Neither has a clipped pixel: 1.1 times nothing is not exceeded."""
    mine, other = tables(np.zeros((4, 1)), np.zeros((4, 1)))
    assert ratio_of_means(mine, other, "v").low is None
    found = times(mine, other, row("v"), 1.1)
    assert decide(found.low, found.high, at_most=0.0) == "passed"


def test_a_gate_without_a_ratio_to_show_says_by_what_it_was_decided(merge_run: Run, merge_verdict: Recommendation) -> None:
    run = replace(merge_run, images=merge_run.images.assign(clipped_share=0.0))
    gate = Gate(value="clipped_share", not_worse_than="baseline", ratio=1.1)
    row = gate_rows(run, [judged(run, merge_verdict, gate)])[0]
    assert (row["status"], row["observed"]) == ("passed", "no ratio")
    assert row["reason"].endswith("decided by its own value minus 1.1 times the other's, "
                                  "0.0 % [0.0 %, 0.0 %]")


def test_a_ratio_to_negative_values_is_refused() -> None:
    found = times(*tables(np.full((4, 1), -2.0), np.full((4, 1), -1.0)), row("v"), 0.95)
    assert (found.low, "below 0" in found.why) == (None, True)


@pytest.mark.parametrize(("gate", "status"), [
    (Gate(value="clip_score", not_worse_than="baseline", ratio=1.0), "passed"),
    (Gate(value="clip_score", not_worse_than="baseline", ratio=1.5), "failed"),
    (Gate(value="clip_score", not_worse_than="alpha=0.45", ratio=1.0, candidates=("alpha=0.45",)), "not_measured"),
    (Gate(value="clip_score", not_worse_than="alpha=0.45", ratio=1.0, candidates=("alpha=0",)), "failed"),
    (Gate(value="clipped_share", not_worse_than="baseline", ratio=1.0), "passed"),
    (Gate(value="clipped_share", not_worse_than="baseline", ratio=0.5), "failed"),
    (Gate(value="seconds_per_image", not_worse_than="baseline", ratio=1.1), "passed"),
    (Gate(value="seconds_per_image", not_worse_than="baseline", ratio=1.0), "failed"),
    (Gate(value="peak_bytes", not_worse_than="baseline", ratio=1.1), "passed"),
    (Gate(value="peak_bytes", not_worse_than="baseline", ratio=1.0), "failed"),
    (Gate(value="saturation", not_worse_than="baseline", ratio=1.0), "not_measured"),
    (Gate(value="clip_score", not_worse_than="baseline", ratio=float("nan")), "not_measured"),
    (Gate(value="clip_score", at_least=1, ratio=1.0), "not_measured")])
def test_each_kind_of_ratio(merge_run: Run, merge_verdict: Recommendation, gate: Gate, status: str) -> None:
    assert judged(merge_run, replace(merge_verdict, guidance=8.0), gate).status == status


def test_a_ratio_says_its_limit_and_what_it_is_of(merge_run: Run, merge_verdict: Recommendation) -> None:
    fewer = judged(merge_run, merge_verdict, Gate(value="seconds_per_image", not_worse_than="baseline", ratio=1.1))
    more = judged(merge_run, merge_verdict, Gate(value="clip_score", not_worse_than="baseline", ratio=0.95))
    assert (fewer.limit, more.limit) == ("at most 1.1 × baseline's", "at least 0.95 × baseline's")
    assert fewer.reason == "median of the ratio to alpha 0 round by round (6 rounds)"
    assert gate_rows(merge_run, [fewer])[0]["observed"].startswith("1.03 × [1.03, 1.03]")


def latency(run: Run, name: str, rounds: tuple[float, ...], **changes: object) -> Run:
    slow = replace(run.latency[name], seconds={"total": rounds}, **changes)  # type: ignore[arg-type]
    return replace(run, latency={**run.latency, name: slow})


def seconds(run: Run, rec: Recommendation, ratio: float) -> Verdict:
    gate = Gate(value="seconds_per_image", not_worse_than="baseline", ratio=ratio, candidates=("alpha=0.45",))
    return judged(run, rec, gate)


def test_rounds_that_were_slow_for_both_cancel(merge_run: Run, merge_verdict: Recommendation) -> None:
    """A machine that gets twice as slow half-way: medians and ranges overlap, the rounds side by side do not."""
    base = (0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2)
    run = latency(latency(merge_run, "alpha=0", base), "alpha=0.45", tuple(1.05 * s for s in base))
    found = seconds(run, merge_verdict, 1.1)
    assert (found.status, found.low, found.high) == ("passed", pytest.approx(1.05), pytest.approx(1.05))
    assert seconds(run, merge_verdict, 1.04).status == "failed"


def test_candidates_with_other_numbers_of_rounds_are_compared_by_their_ranges(merge_run: Run,
                                                                            merge_verdict: Recommendation) -> None:
    run = latency(merge_run, "alpha=0", (0.1, *(0.2,) * 5, 0.3))
    run = latency(run, "alpha=0.45", (0.2, *(0.3,) * 4, 0.4))
    found = seconds(run, merge_verdict, 1.1)
    assert (found.status, found.low, found.high) == ("inconclusive", pytest.approx(0.2 / 0.3), pytest.approx(4.0))


def test_a_busy_machine_has_no_ratio(merge_run: Run, merge_verdict: Recommendation) -> None:
    found = seconds(latency(merge_run, "alpha=0.45", (0.2,) * 5, yardstick=(0.02,) * 5), merge_verdict, 9.0)
    assert (found.status, "not comparable" in found.reason) == ("not_measured", True)
