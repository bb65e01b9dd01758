"""The tied set: by hand, by exhaustive enumeration, and by counting false alarms and losses of the true best in simulations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import t as student_t

from harness.race.elimination import look_level
from reports.statistics import tied_set as simultaneous
from reports.statistics.tied_set import from_best


def noisy(rng: np.random.Generator, prompts: int, truth: list[float] | np.ndarray) -> np.ndarray:
    """Prompt means whose noise is correlated between cells and unequal: prompts differ, and neighbours react alike."""
    cells = len(truth)
    alike = rng.normal(size=(prompts, 3)) @ np.vander(np.linspace(-1, 1, cells), 3).T
    spread = np.linspace(0.5, 2.0, cells)
    return np.asarray(truth) + rng.normal(0, 5, (prompts, 1)) + alike + spread * rng.normal(size=(prompts, cells))


@pytest.mark.parametrize(("prompts", "cells"), [(5, 10), (8, 35), (12, 126), (40, 35)])
def test_of_a_thousand_a_a_runs_at_most_five_percent_find_a_difference(prompts: int, cells: int) -> None:
    rng = np.random.default_rng(prompts)
    alarms = sum(not from_best(noisy(rng, prompts, np.zeros(cells)), draws=128).tied.all() for _ in range(1000))
    assert alarms <= 50 + 2 * np.sqrt(1000 * 0.05 * 0.95)  # 5 %, and what 1,000 runs can miss it by


def test_plain_intervals_of_the_same_runs_find_a_difference_in_most() -> None:
    rng = np.random.default_rng(8)
    alarms = 0
    for _ in range(200):
        scores = noisy(rng, 8, np.zeros(35))
        d = scores[:, [scores.mean(axis=0).argmax()]] - scores
        error = np.maximum(d.std(axis=0, ddof=1) / 8**0.5, 1e-9)
        alarms += bool((d.mean(axis=0) / error > student_t.ppf(0.975, 7)).any())
    assert alarms > 100


def test_the_true_best_cell_stays_in_the_set_in_95_percent_of_runs() -> None:
    rng = np.random.default_rng(4)
    truth = -8 * (np.linspace(0, 1, 21) - 0.4) ** 2
    kept = np.mean([from_best(noisy(rng, 12, truth), draws=256).tied[truth.argmax()] for _ in range(500)])
    assert kept >= 0.95


def test_hopeless_cells_are_left_out_and_the_set_shrinks_with_more_prompts() -> None:
    rng = np.random.default_rng(4)
    truth = -20 * (np.linspace(0, 1, 21) - 0.4) ** 2
    few, many = (from_best(noisy(rng, prompts, truth)).tied.sum() for prompts in (10, 200))
    assert many < few < 21


def test_the_quantile_is_the_one_of_all_sign_patterns_counted_one_by_one() -> None:
    scores = noisy(np.random.default_rng(6), 6, np.zeros(4))
    rows = scores - scores.mean(axis=1, keepdims=True)
    shared = 2 * np.median((rows**2).sum(axis=0)) / 6
    largest = []
    for signs in itertools.product((1, -1), repeat=6):
        flipped = rows * np.array(signs)[:, None]
        d = flipped[:, [flipped.mean(axis=0).argmax()]] - flipped
        error = np.sqrt((4 * shared + 5 * d.var(axis=0, ddof=1)) / 9 / 6)
        largest.append((d.mean(axis=0) / error).max())
    d = scores[:, [scores.mean(axis=0).argmax()]] - scores
    limit = np.quantile(largest, 0.95, method="higher")
    expected = limit * np.sqrt((4 * shared + 5 * d.var(axis=0, ddof=1)) / 9 / 6)
    found = from_best(scores)
    other = np.arange(4) != found.best
    assert found.half[other] == pytest.approx(expected[other])


def test_below_five_prompts_bonferroni_over_all_pairs_gives_the_limit() -> None:
    scores = noisy(np.random.default_rng(2), 3, np.zeros(4))
    found = from_best(scores)
    _, error, _ = simultaneous._distances(scores, np.ones((1, 3)), around_means=True)
    other = np.arange(4) != found.best
    assert found.half[other] == pytest.approx(student_t.ppf(1 - 0.025 / 6, 2) * error[0][other])


@pytest.mark.parametrize("looks", [7, 13, 25])
def test_a_cell_far_better_than_all_others_is_told_from_them_at_the_first_of_many_looks(looks: int) -> None:
    scores = np.random.default_rng(0).normal(size=(8, 20))
    scores[:, 0] += 100
    assert from_best(scores, 1 - 0.05 / looks).tied.tolist() == [True] + [False] * 19


def test_two_groups_far_apart_are_told_apart_at_the_first_of_many_looks() -> None:
    scores = np.random.default_rng(0).normal(size=(8, 20))
    scores[:, :10] += 100
    assert from_best(scores, 1 - 0.05 / 13).tied.tolist() == [True] * 10 + [False] * 10


def test_five_prompts_tell_apart_what_is_far_apart() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 4)) + np.array([100.0, 0.0, 0.0, 0.0])
    assert from_best(scores).tied.tolist() == [True, False, False, False]


@pytest.mark.parametrize("level", [1 - 0.05 / 7, 1 - 0.05 / 13])
def test_where_signs_are_too_few_the_false_alarms_keep_to_the_level(level: float) -> None:
    rng = np.random.default_rng(21)
    alarms = sum(not from_best(noisy(rng, 8, np.zeros(20)), level).tied.all() for _ in range(400))
    assert alarms <= 400 * (1 - level) + 2 * np.sqrt(400 * (1 - level))


def test_the_verdict_does_not_depend_on_what_all_cells_of_a_prompt_share_or_on_the_unit() -> None:
    rng = np.random.default_rng(3)
    scores = noisy(rng, 9, np.linspace(0, 3, 12))
    other = from_best(7 * (scores + rng.normal(0, 100, (9, 1))))
    assert (from_best(scores).tied == other.tied).all()
    assert from_best(scores).half * 7 == pytest.approx(other.half)


def test_cells_with_equal_images_are_tied_and_no_rounding_parts_them() -> None:
    column = np.random.default_rng(5).normal(70, 9, 8)
    found = from_best(np.column_stack([column, column, column + 1e-14]))
    assert found.tied.all()


def test_a_difference_that_every_prompt_shows_alike_is_found() -> None:
    column = np.random.default_rng(5).normal(70, 9, 8)
    assert from_best(np.column_stack([column, column - 1.0])).tied.tolist() == [True, False]


def test_the_best_cell_is_no_distance_from_itself() -> None:
    found = from_best(noisy(np.random.default_rng(5), 8, np.zeros(5)))
    assert (found.mean[found.best], found.half[found.best], found.tied[found.best]) == (0, 0, True)


def test_a_single_cell_is_tied_with_itself() -> None:
    assert from_best(np.array([[1.0], [2.0]])).tied.tolist() == [True]


def test_missing_values_are_refused_with_the_shape_and_their_number() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\) with 1 values that are not finite"):
        from_best(np.array([[1.0, np.nan], [2.0, 3.0]]))


def test_hopeless_and_noisy_cells_beside_equal_ones_do_not_raise_the_false_alarms() -> None:
    rng = np.random.default_rng(9)
    truth, spread = np.repeat([0.0, -12.0], 15), np.repeat([1.0, 5.0], 15)
    alarms = [not from_best(truth + spread * rng.normal(size=(12, 30)), draws=256).tied[:15].all() for _ in range(400)]
    assert np.mean(alarms) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


def test_of_races_without_any_difference_at_most_five_percent_drop_a_cell() -> None:
    rng = np.random.default_rng(12)
    alarms = []
    for _ in range(400):
        scores = rng.normal(size=(18, 12))
        alarms.append(any(not from_best(scores[:known], look_level(number, 3), draws=512).tied.all()
                          for number, known in enumerate((6, 12, 18), start=1)))
    assert np.mean(alarms) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)
