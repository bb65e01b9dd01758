"""Intervals: known answers by hand, and coverage by simulation with a planted difference."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student_t

from reports.statistics import cluster_interval, cluster_mean, paired_difference

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
    e = cluster_mean(table([0.0, 0.0, 0.0, 4.0], ["a", "a", "a", "b"]), "score")
    assert e.mean == 2.0


def test_a_single_prompt_has_a_mean_but_no_interval_and_says_why() -> None:
    e = cluster_mean(table([1.0, 2.0], ["a", "a"]), "score")
    assert (e.mean, e.low, e.high, e.distinct) == (1.5, None, None, False)
    assert "at least two" in e.why


def test_the_mean_of_nothing_is_none_and_never_zero() -> None:
    e = cluster_mean(table([np.nan], ["a"]), "score")
    assert e.mean is None
    assert e.why == "no values"


def test_a_value_nobody_measured_is_named() -> None:
    assert "novelty was not measured" in cluster_mean(table([1.0], ["a"]), "novelty").why


def test_pairing_cancels_what_prompt_and_seed_have_in_common() -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 50, 8)
    a = table((shared + 1.0 + rng.normal(0, 0.01, 8)).tolist(), list("aabbccdd"))
    b = table(shared.tolist(), list("aabbccdd"))
    e = paired_difference(a, b, "score")
    assert e.word == "better"
    assert e.mean == pytest.approx(1.0, abs=0.02)


def test_images_without_partner_or_value_are_left_out_of_the_pairs() -> None:
    a = table([1.0, 2.0, 3.0], ["a", "b", "c"], [1, 1, 1])
    b = table([1.0, np.nan, 1.0], ["a", "b", "d"], [1, 1, 1])
    assert paired_difference(a, b, "score").pairs == 1


def test_identical_images_are_tied_with_an_interval_of_width_zero() -> None:
    a = table([1.0, 2.0], ["a", "b"])
    e = paired_difference(a, a, "score")
    assert (e.mean, e.low, e.high, e.word) == (0.0, 0.0, 0.0, "tied")


def test_pairing_by_a_key_that_is_not_unique_is_refused() -> None:
    a = pd.concat([table([1.0], ["a"], [1]), table([2.0], ["a"], [1])])
    with pytest.raises(pd.errors.MergeError):
        paired_difference(a, a, "score")
