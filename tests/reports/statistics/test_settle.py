"""How many prompts would settle it: known answers, and the number is enough in about eight of ten repeats, far fewer are not.
tests/benchmarks/settling.py counts it in thousands of repeats, of tied sets and gates too."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import nct, norm
from scipy.stats import t as student_t

from harness.records.values import RUN_VALUES
from reports.formatting import settled
from reports.statistics.intervals import Estimate, cluster_interval, holm, wilson
from reports.statistics.settling import CHANCE, JointTest, Needed, prompts_to_leave_out, prompts_to_settle
from tests.rows import row

SHARE, FLAG = row("clipped_share"), RUN_VALUES["failure_rate"]


def estimate(mean: float, sd: float, prompts: int, level: float = 0.95) -> Estimate:
    error = sd / math.sqrt(prompts)
    half = float(student_t.ppf((1 + level) / 2, prompts - 1)) * error
    return Estimate(mean=mean, low=mean - half, high=mean + half, prompts=prompts, pairs=prompts, error=error, level=level)


@pytest.mark.parametrize(("mean", "sd", "level", "expected"), [
    # (1.96 + 0.84)^2 (sd / mean)^2 by the normal distribution, and some prompts more for t.
    (1.0, 2.0, 0.95, 34), (-1.0, 2.0, 0.95, 34), (0.5, 2.0, 0.95, 128), (1.0, 2.0, 0.975, 41)])
def test_the_number_is_the_one_of_a_power_table(mean: float, sd: float, level: float, expected: int) -> None:
    needed = prompts_to_settle(estimate(mean, sd, 16, level))
    assert needed == Needed(there=16, prompts=expected)
    quantile = norm.ppf((1 + level) / 2) + norm.ppf(CHANCE)
    assert expected == pytest.approx((quantile * sd / mean)**2 + 2.5, abs=1.5)


def test_the_number_counts_from_the_limit() -> None:
    assert prompts_to_settle(estimate(1.5, 2.0, 16), 0.5) == prompts_to_settle(estimate(1.0, 2.0, 16))


@pytest.mark.parametrize("mean", [1.0, 1.6])
def test_so_many_prompts_show_the_difference_in_eight_of_ten_repeats(mean: float) -> None:
    rng, needed = np.random.default_rng(4), prompts_to_settle(estimate(mean, 2.0, 5))
    assert needed is not None
    assert needed.prompts is not None
    shares = [np.mean([cluster_interval(rng.normal(mean, 2.0, count), range(count)).distinct for _ in range(400)])
              for count in (needed.prompts, needed.prompts // 2)]
    assert shares[0] == pytest.approx(CHANCE, abs=0.06)
    assert shares[1] < 0.62


def test_comparisons_that_hold_together_need_more() -> None:
    alone = estimate(1.0, 2.0, 12)
    together = holm([alone, estimate(0.2, 2.0, 12), estimate(0.1, 2.0, 12)], replace(SHARE, low=None, high=None))[0]
    assert together.level == pytest.approx(1 - 0.05 / 3)
    needed = [prompts_to_settle(of) for of in (alone, together)]
    assert all(of is not None and of.prompts for of in needed)
    assert (needed[0].prompts or 0) < (needed[1].prompts or 0)  # type: ignore[union-attr]


@pytest.mark.parametrize(("mean", "limit"), [(0.08, 0.05), (0.02, 0.05), (0.4, 0.5)])
def test_a_share_is_counted_by_wilsons_interval(mean: float, limit: float) -> None:
    """Of n prompts with this mean and spread the interval leaves the limit behind; with the n of the t interval it need not."""
    of = wilson(estimate(mean, 0.1, 8))
    needed = prompts_to_settle(of, limit, SHARE)
    assert needed is not None
    assert needed.prompts is not None
    n = needed.prompts
    there = wilson(estimate(mean, 0.1, n))
    assert there.low is not None
    assert there.high is not None
    assert not there.low <= limit <= there.high
    widening = math.sqrt(limit * (1 - limit) / (mean * (1 - mean)))
    quantiles = [float(widening * student_t.ppf(0.975, k - 1)) for k in (n, n - 1)]
    power = [float(nct.sf(q, k - 1, abs(mean - limit) * math.sqrt(k) / 0.1)) for q, k in zip(quantiles, (n, n - 1), strict=True)]
    assert power[0] >= CHANCE > power[1]


def test_flags_that_no_image_has_need_the_images_of_the_rule_of_three() -> None:
    none = wilson(Estimate(mean=0.0, low=0.0, high=0.0, prompts=8, pairs=16, error=0.0), flags=True)
    needed = prompts_to_settle(none, 0.05, FLAG)
    # 1.96^2 x 0.95 / 0.05 = 73 images, two for each prompt.
    assert needed == Needed(there=8, prompts=37)
    assert wilson(replace(none, prompts=37, pairs=74), flags=True).high == pytest.approx(0.05, abs=1e-3)
    assert prompts_to_settle(none, 0.0, FLAG) is None


def joint(limit: float, prompts: int) -> JointTest:
    return JointTest(limit=limit, level=0.95, prompts=prompts, prior=4.0)


@pytest.mark.parametrize(("limit", "prompts"), [(2.2, 16), (2.05, 20)])
def test_one_tied_cell_needs_what_a_comparison_of_two_needs(limit: float, prompts: int) -> None:
    (needed,) = prompts_to_leave_out(np.array([1.0]), np.array([2.0 / math.sqrt(prompts)]), joint(limit, prompts))
    normal = float(norm.isf(student_t.sf(limit, prompts + 3)))
    assert needed.prompts == pytest.approx(((normal + norm.ppf(CHANCE)) * 2.0)**2, rel=0.15)


def test_among_many_cells_each_needs_more_and_the_far_ones_make_room_for_the_near_ones() -> None:
    error = np.full(30, 0.5)
    alone = prompts_to_leave_out(np.full(1, 1.0), error[:1], joint(2.2, 16))[0]
    near = prompts_to_leave_out(np.array([1.0, *[0.1] * 29]), error, joint(4.4, 16))[0]
    far = prompts_to_leave_out(np.array([1.0, *[9.0] * 29]), error, joint(4.4, 16))[0]
    assert far.prompts == pytest.approx(alone.prompts, rel=0.15)
    assert (near.prompts or 0) > 1.5 * (far.prompts or 0)


@pytest.mark.parametrize("prompts", [4, 5, 8])
@pytest.mark.parametrize("share", [0.99, 0.9, 0.5])
def test_what_is_tied_needs_more_prompts_than_it_has(prompts: int, share: float) -> None:
    of = estimate(share * float(student_t.ppf(0.975, prompts - 1)), math.sqrt(prompts), prompts)
    needed = prompts_to_settle(of)
    assert needed is not None
    assert needed.prompts is not None
    assert needed.prompts > prompts


@pytest.mark.parametrize(("of", "expected"), [
    (estimate(0.0, 1.0, 8), Needed(there=8)), (estimate(0.01, 1.0, 8), Needed(there=8)),
    (estimate(1.0, 1.0, 2), Needed(there=2, sayable=False)), (estimate(1.0, 1.0, 3), Needed(there=3, sayable=False)),
    (replace(estimate(1.0, 1.0, 8), error=None), None), (replace(estimate(1.0, 1.0, 8), low=None), None)])
def test_no_number_is_made_up(of: Estimate, expected: Needed | None) -> None:
    assert prompts_to_settle(of) == expected


@pytest.mark.parametrize(("needed", "words"), [
    (Needed(there=16, prompts=62), "about 62 prompts (now 16)"), (Needed(there=16, prompts=123), "about 120 prompts (now 16)"),
    (Needed(there=16, prompts=17), "about 17 prompts (now 16)"), (Needed(there=120, prompts=123), "about 121 prompts (now 120)"),
    (Needed(there=16, prompts=437), "very roughly 400 prompts (now 16)"),
    (Needed(there=16), "more than 480 prompts (now 16): too close to be worth it"),
    (Needed(there=1000), "more than 10,000 prompts (now 1,000): too close to be worth it"),
    (Needed(there=20_000), "more than 20,000 prompts (now 20,000): too close to be worth it"),
    (Needed(there=2, sayable=False), "cannot be said from 2 prompts")])
def test_a_number_is_as_exact_as_it_is_known(needed: Needed, words: str) -> None:
    assert settled(needed) == words
