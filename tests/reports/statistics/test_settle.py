"""How many prompts would settle it: the number is enough in about nine of ten repeats, and far fewer are not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from reports.formatting import settled
from reports.statistics.intervals import Estimate, cluster_interval, prompts_to_settle


def test_so_many_prompts_show_the_difference_in_nine_of_ten_repeats() -> None:
    rng = np.random.default_rng(4)
    error, true = 5.0 / 12**0.5, 2.0
    needed = prompts_to_settle(Estimate(mean=true, low=-1.0, high=5.0, prompts=12, pairs=12, error=error))
    assert needed is not None
    shares = [np.mean([cluster_interval(rng.normal(true, 5.0, count), range(count)).distinct for _ in range(300)])
              for count in (needed, needed // 3)]
    assert shares[0] == pytest.approx(0.9, abs=0.06)
    assert shares[1] < 0.6


@pytest.mark.parametrize(("mean", "error", "limit", "needed"), [
    (2.0, 1.0, 0.0, 24), (2.0, 1.0, 1.0, 87), (-2.0, 1.0, 0.0, 24), (1.0, 1.0, 1.0, None), (1.0, None, 0.0, None)])
def test_the_number_grows_with_the_square_of_the_distance(mean: float, error: float | None, limit: float,
                                                          needed: int | None) -> None:
    assert prompts_to_settle(Estimate(mean=mean, low=0.0, high=4.0, prompts=8, pairs=8, error=error), limit) == needed


@pytest.mark.parametrize(("prompts", "said"), [(22, "about 22 prompts"), (1234, "about 1,200 prompts"),
                                               (10_001, "more than 10,000 prompts")])
def test_a_number_is_as_exact_as_it_is_known(prompts: int, said: str) -> None:
    assert settled(prompts) == said


@pytest.mark.parametrize(("prompts", "there", "said"), [
    (2, 2, "about 3 prompts"), (1, 0, "about 1 prompt"), (104, 100, "about 104 prompts"), (24, 8, "about 24 prompts"),
    (90, 100, "about 101 prompts"), (20_000, 30_000, "more than 30,000 prompts")])
def test_no_number_is_as_few_as_are_there(prompts: int, there: int, said: str) -> None:
    assert settled(prompts, there) == said


@pytest.mark.parametrize("prompts", [2, 3, 5, 8])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.1])
def test_what_is_tied_needs_more_prompts_than_it_has(prompts: int, share: float) -> None:
    mean = share * float(t.ppf(0.975, prompts - 1))
    tied = Estimate(mean=mean, low=0.0, high=1.0, prompts=prompts, pairs=prompts, error=1.0)
    assert (prompts_to_settle(tied) or 0) > prompts


@pytest.mark.parametrize("prompts", [3, 4, 6])
def test_few_prompts_are_enough_as_often_as_many(prompts: int) -> None:
    rng = np.random.default_rng(prompts)
    needed = prompts_to_settle(Estimate(mean=3.0, low=0.0, high=9.0, prompts=prompts, pairs=prompts, error=2.0 / prompts**0.5))
    assert needed is not None
    assert needed >= 5
    assert np.mean([cluster_interval(rng.normal(3.0, 2.0, needed), range(needed)).distinct for _ in range(300)]) > 0.8
