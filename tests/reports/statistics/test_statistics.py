"""Intervals: known answers by hand, and coverage by simulation with a planted difference."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student_t

from reports.statistics.intervals import (
    Estimate,
    bootstrap_interval,
    cluster_interval,
    cluster_mean,
    cluster_means,
    holm,
    paired_difference,
    within_bounds,
)
from tests.rows import row

PROMPTS, SEEDS = 12, 4


def table(values: list[float], prompts: list[str], seeds: list[int] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"prompt": prompts, "seed": seeds or list(range(len(values))), "guidance": 3.0, "score": values})


def simulated(rng: np.random.Generator, truth: float) -> np.ndarray:
    """Differences of PROMPTS x SEEDS pairs: each prompt has an effect of its own beside the noise of its seeds."""
    return truth + rng.normal(0, 1.0, (PROMPTS, 1)) + rng.normal(0, 1.0, (PROMPTS, SEEDS))


def test_the_interval_of_two_prompts_is_the_one_computed_by_hand() -> None:
    e = cluster_interval(np.array([1.0, 3.0, 5.0, 7.0]), ["a", "a", "b", "b"])
    half = 12.7062 * np.sqrt(8) / np.sqrt(2)  # t of one degree of freedom, means 2 and 6
    assert e.mean == 4.0
    assert e.low == pytest.approx(4 - half, abs=1e-3)
    assert (e.prompts, e.pairs) == (2, 4)


def test_the_95_percent_interval_covers_the_truth_in_93_to_97_percent_of_runs() -> None:
    rng = np.random.default_rng(20)
    clusters = np.repeat(np.arange(PROMPTS), SEEDS).tolist()
    runs = [cluster_interval(simulated(rng, 0.7).ravel(), clusters) for _ in range(1500)]
    covered = np.mean([e.low <= 0.7 <= e.high for e in runs if e.low is not None and e.high is not None])
    assert 0.93 <= covered <= 0.97


def test_taking_images_for_independent_would_cover_far_less() -> None:
    rng = np.random.default_rng(20)
    covered = []
    for _ in range(1500):
        x = simulated(rng, 0.7).ravel()
        half = student_t.ppf(0.975, x.size - 1) * x.std(ddof=1) / np.sqrt(x.size)
        covered.append(abs(x.mean() - 0.7) <= half)
    assert np.mean(covered) < 0.88


def test_every_prompt_counts_once_however_many_images_it_has() -> None:
    e = cluster_mean(table([0.0, 0.0, 0.0, 4.0], ["a", "a", "a", "b"]), row("score"))
    assert e.mean == 2.0


def test_a_single_prompt_has_a_mean_but_no_interval_and_says_why() -> None:
    e = cluster_mean(table([1.0, 2.0], ["a", "a"]), row("score"))
    assert (e.mean, e.low, e.high, e.distinct) == (1.5, None, None, False)
    assert "at least two" in e.why


def test_the_mean_of_nothing_is_none_and_never_zero() -> None:
    e = cluster_mean(table([np.nan], ["a"]), row("score"))
    assert e.mean is None
    assert e.why == "no values"


def test_a_value_nobody_measured_is_named() -> None:
    assert "novelty was not measured" in cluster_mean(table([1.0], ["a"]), row("novelty")).why


def test_pairing_cancels_what_prompt_and_seed_have_in_common() -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 50, 8)
    a = table((shared + 1.0 + rng.normal(0, 0.01, 8)).tolist(), list("aabbccdd"))
    b = table(shared.tolist(), list("aabbccdd"))
    e = paired_difference(a, b, row("score"))
    assert e.word == "better"
    assert e.mean == pytest.approx(1.0, abs=0.02)


def test_images_without_partner_or_value_are_left_out_of_the_pairs() -> None:
    a = table([1.0, 2.0, 3.0], ["a", "b", "c"], [1, 1, 1])
    b = table([1.0, np.nan, 1.0], ["a", "b", "d"], [1, 1, 1])
    assert paired_difference(a, b, row("score")).pairs == 1


def test_identical_images_are_tied_with_an_interval_of_width_zero() -> None:
    a = table([1.0, 2.0], ["a", "b"])
    e = paired_difference(a, a, row("score"))
    assert (e.mean, e.low, e.high, e.word) == (0.0, 0.0, 0.0, "tied")


def test_pairing_by_a_key_that_is_not_unique_is_refused() -> None:
    a = pd.concat([table([1.0], ["a"], [1]), table([2.0], ["a"], [1])])
    with pytest.raises(pd.errors.MergeError):
        paired_difference(a, a, row("score"))


def flags(count: int, of: int, prompts: int) -> pd.DataFrame:
    """`of` images over `prompts` prompts, one after the other; the first `count` have the flag."""
    return pd.DataFrame({"prompt": [f"p{i % prompts}" for i in range(of)], "seed": range(of), "guidance": 3.0,
                         "broken": [float(i < count) for i in range(of)]})


@pytest.mark.parametrize(("count", "of", "prompts"), [(1, 200, 20), (3, 24, 8), (23, 24, 8), (13, 24, 3)])
def test_the_ends_of_a_shares_interval_solve_wilsons_equation_for_the_effective_number_of_draws(
        count: int, of: int, prompts: int) -> None:
    e = cluster_mean(flags(count, of, prompts), row("broken"))
    assert e.mean is not None
    assert e.error is not None
    assert e.low is not None
    assert e.high is not None
    n = e.mean * (1 - e.mean) / e.error**2
    q = student_t.ppf(0.975, prompts - 1)
    for end in (e.low, e.high):
        assert abs(e.mean - end) == pytest.approx(q * np.sqrt(end * (1 - end) / n))
    assert 0 <= e.low < e.mean < e.high <= 1


def test_no_failure_among_200_images_does_not_prove_that_there_are_none() -> None:
    e = cluster_mean(flags(0, 200, 20), row("broken"))
    assert (e.mean, e.low) == (0.0, 0.0)
    assert e.high == pytest.approx(1.959964**2 / (200 + 1.959964**2), rel=1e-6)


def test_flags_that_every_prompt_has_as_often_get_the_interval_of_all_images() -> None:
    e = cluster_mean(flags(12, 24, 3), row("broken"))
    assert (e.mean, e.error) == (0.5, 0.0)
    assert e.high == pytest.approx(0.5 + 1.959964 * np.sqrt(0.25 / (24 + 1.959964**2)), abs=1e-6)


def test_pixel_shares_that_are_the_same_everywhere_keep_an_interval_without_width() -> None:
    same = flags(0, 8, 4).rename(columns={"broken": "clipped_share"})
    assert (cluster_mean(same, row("clipped_share")).low, cluster_mean(same, row("clipped_share")).high) == (0.0, 0.0)


def test_for_rare_burnt_pixels_wilson_covers_the_truth_more_often_than_the_t_interval_and_stays_above_zero() -> None:
    rng = np.random.default_rng(3)
    held = {"t": 0, "wilson": 0, "below zero": 0}
    for _ in range(1000):
        t = cluster_interval(rng.beta(1.0, 19.0, 8), list(range(8)))
        w = within_bounds(t, row("clipped_share"))
        assert None not in (t.low, t.high, w.low, w.high)
        held["t"] += t.low <= 0.05 <= t.high  # type: ignore[operator]
        held["wilson"] += w.low <= 0.05 <= w.high  # type: ignore[operator]
        held["below zero"] += w.low < 0  # type: ignore[operator]
    assert held["wilson"] > held["t"] + 15
    assert held["wilson"] > 920
    assert held["below zero"] == 0


def test_a_difference_of_shares_may_be_negative_and_keeps_its_t_interval() -> None:
    e = paired_difference(flags(0, 24, 8), flags(3, 24, 8), row("broken"))
    assert e.low is not None
    assert e.low < 0


def test_the_cluster_bootstrap_covers_the_truth_in_92_to_98_percent_of_runs() -> None:
    rng = np.random.default_rng(21)
    clusters = np.repeat(np.arange(PROMPTS), SEEDS).tolist()
    runs = [bootstrap_interval(simulated(rng, 0.7).ravel(), clusters, draws=599, seed=i) for i in range(300)]
    assert 0.92 <= np.mean([e.low <= 0.7 <= e.high for e in runs if e.low is not None and e.high is not None]) <= 0.98


def test_for_skewed_prompts_the_bootstrap_covers_more_often_than_t() -> None:
    rng = np.random.default_rng(5)
    held = {"t": 0, "bootstrap": 0}
    for i in range(200):
        x = rng.exponential(1.0, 20) ** 2  # the mean is 2
        for name, e in (("t", cluster_interval(x, list(range(20)))),
                        ("bootstrap", bootstrap_interval(x, list(range(20)), draws=599, seed=i))):
            held[name] += e.low is not None and e.high is not None and e.low <= 2.0 <= e.high
    assert held["bootstrap"] > held["t"] + 5


def test_the_bootstrap_of_values_without_spread_or_of_one_prompt_is_the_plain_estimate() -> None:
    assert bootstrap_interval(np.ones(4), list("abcd")) == cluster_interval(np.ones(4), list("abcd"))
    assert "at least two" in bootstrap_interval(np.ones(2), ["a", "a"]).why


def estimate(mean: float | None, error: float | None, prompts: int = 8) -> Estimate:
    return Estimate(mean=mean, low=None, high=None, prompts=prompts, pairs=prompts, error=error)


def test_holm_gives_the_surest_of_two_the_wider_interval_and_the_other_the_plain_one() -> None:
    sure, close = holm((estimate(9.0, 1.0), estimate(2.5, 1.0)), row("score"))
    assert (sure.low, sure.high) == pytest.approx((9 - 2.8412, 9 + 2.8412), abs=1e-3)  # t of 7 degrees of freedom at 0.9875
    assert (close.low, close.high) == pytest.approx((2.5 - 2.3646, 2.5 + 2.3646), abs=1e-3)
    assert (sure.word, close.word) == ("better", "better")


def test_holm_stops_at_the_first_that_is_not_distinct() -> None:
    first, second = holm((estimate(2.5, 1.0), estimate(2.4, 1.0)), row("score"))
    assert (first.word, second.word) == ("tied", "tied")


def test_holm_does_not_count_what_was_not_measured_and_leaves_it_as_it_is() -> None:
    nothing = estimate(None, None, 0)
    alone, kept = holm((estimate(2.5, 1.0), nothing), row("score"))
    assert kept is nothing
    assert alone.word == "better"


def test_holm_of_differences_without_spread_follows_their_means() -> None:
    assert [e.word for e in holm((estimate(1.0, 0.0), estimate(0.0, 0.0)), row("score"))] == ["better", "tied"]


def test_with_two_equal_parents_holm_calls_one_different_in_at_most_five_percent_of_runs() -> None:
    rng = np.random.default_rng(11)
    alarms, plain = 0, 0
    for _ in range(1000):
        x, shared = rng.normal(size=(2, 8)), rng.normal(size=8)  # the pick's own noise is in both differences
        both = [cluster_interval(row - shared, list(range(8))) for row in x]
        alarms += any(e.distinct for e in holm(both, row("score")))
        plain += any(e.distinct for e in both)
    assert alarms <= 60 < plain


def test_all_groups_at_once_are_what_each_of_them_is_alone() -> None:
    rng = np.random.default_rng(12)
    rows = table(rng.normal(size=300).tolist(), [f"p{i}" for i in rng.integers(0, 9, 300)])
    rows = rows.assign(cell=rng.integers(0, 5, 300), other=np.arange(300) % 2)
    rows.loc[rng.integers(0, 300, 40), "score"] = np.nan
    rows.loc[(rows["cell"] == 3) & (rows["prompt"] != "p4"), "score"] = np.nan
    together = cluster_means(rows, "score", ("cell", "other"))
    for key, e in together.items():
        alone = cluster_mean(rows[(rows["cell"] == key[0]) & (rows["other"] == key[1])], row("score"))
        assert (e.prompts, e.pairs, e.why) == (alone.prompts, alone.pairs, alone.why)
        assert (e.mean, e.low, e.high, e.error) == pytest.approx((alone.mean, alone.low, alone.high, alone.error))
    assert len(together) == 10


def test_groups_without_a_value_are_absent() -> None:
    rows = table([1.0, np.nan], ["a", "a"]).assign(cell=["x", "y"])
    assert list(cluster_means(rows, "score", ("cell",))) == [("x",)]


def test_the_example_of_the_manual_is_computed_right() -> None:
    gains = table([2, 4, 1, 1, -1, 1, 3, 5], ["cat", "cat", "car", "car", "boat", "boat", "tree", "tree"])
    e = cluster_mean(gains, row("score"))
    assert (e.mean, e.low, e.high) == pytest.approx((2.0, -0.91, 4.91), abs=0.01)
    images = cluster_interval(gains["score"].to_numpy(dtype=np.float64), list(range(8)))
    assert (images.low, images.high) == pytest.approx((0.39, 3.61), abs=0.01)
