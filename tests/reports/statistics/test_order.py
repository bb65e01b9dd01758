"""Quantiles with bounds that hold for any distribution, against hand-made and independent answers."""

import random

import numpy as np
import pytest
from scipy.stats import binom

from reports.statistics.order_statistics import median_interval, percentile, rounds_needed


@pytest.mark.parametrize(("quantile", "needed"), [(0.5, 5), (0.9, 29), (0.95, 59), (0.99, 299)])
def test_the_rounds_needed_are_the_fewest_whose_slowest_bounds_the_quantile(quantile: float, needed: int) -> None:
    assert rounds_needed(quantile) == needed
    assert 1 - quantile**needed >= 0.95 > 1 - quantile ** (needed - 1)


@pytest.mark.parametrize("quantile", [0, 1, 90])
def test_a_quantile_in_percent_is_refused(quantile: float) -> None:
    with pytest.raises(ValueError, match=r"such as 0\.9"):
        rounds_needed(quantile)


def test_one_round_too_few_gives_no_number_but_says_how_many_are_needed() -> None:
    short = percentile([float(n) for n in range(28)], 0.9)
    assert (short.value, short.at_most, short.needed) == (None, None, 29)
    assert short.why == "too few rounds: 28 of 29"


def test_with_just_enough_rounds_the_bound_is_the_slowest() -> None:
    just = percentile([float(n) for n in range(1, 30)], 0.9)
    assert (just.value, just.at_most, just.why) == (27.0, 29.0, "")


def test_the_median_is_always_given_and_bounded_from_five_rounds_on() -> None:
    assert percentile([3.0, 1.0], 0.5).value == 2.0
    assert percentile([3.0, 1.0], 0.5).at_most is None
    assert percentile([5.0, 4.0, 3.0, 2.0, 1.0], 0.5).at_most == 5.0
    assert percentile([], 0.5).value is None


@pytest.mark.parametrize(("n", "quantile"), [(5, 0.5), (40, 0.5), (100, 0.9), (100, 0.95), (1000, 0.99), (5000, 0.9)])
def test_the_bound_is_the_order_statistic_that_scipys_binomial_gives(n: int, quantile: float) -> None:
    ranks = [float(k) for k in range(1, n + 1)]
    expected = next(k for k in range(1, n + 1) if binom.cdf(k - 1, n, quantile) >= 0.95 or k == n)
    assert percentile(ranks, quantile).at_most == expected


def test_the_bound_holds_in_at_least_95_of_100_samples_of_a_skewed_distribution() -> None:
    drawn = random.Random(1)
    true_p90 = 2.302585  # of the exponential distribution: ln 10
    held = [percentile([drawn.expovariate(1) for _ in range(40)], 0.9).at_most for _ in range(2000)]
    assert sum(bound is not None and bound >= true_p90 for bound in held) / 2000 > 0.94


@pytest.mark.parametrize(("count", "rank"), [(5, 1), (6, 1), (8, 1), (9, 2), (29, 9)])
def test_the_median_lies_between_the_ranks_of_the_sign_test(count: int, rank: int) -> None:
    """Ranks of the usual tables (such as Conover's) at 95 %."""
    found = median_interval([float(n) for n in range(1, count + 1)])
    assert (found.low, found.high) == (rank, count + 1 - rank)
    assert bool(found.why) == (count < 6)


def test_the_interval_of_a_median_covers_a_skewed_one() -> None:
    rng = np.random.default_rng(4)
    found = [median_interval(list(rng.exponential(1.0, 9))) for _ in range(400)]
    hits = sum((e.low or 0) <= np.log(2) <= (e.high or 0) for e in found)
    assert 0.93 <= hits / 400 <= 0.99
