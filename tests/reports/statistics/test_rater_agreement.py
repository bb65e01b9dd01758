"""Agreement between raters: figures of the papers that defined them, and what must hold whatever the scores are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reports.statistics.bradley_terry import bradley_terry, strengths
from reports.statistics.rater_agreement import agreement, centred, intraclass, krippendorff_alpha, offsets, retest

NAN = math.nan
KRIPPENDORFF_2011 = np.array([  # four observers, twelve units, from "Computing Krippendorff's Alpha-Reliability"
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN]]).T
SHROUT_FLEISS_1979 = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float)


def test_alpha_is_that_of_krippendorffs_example_for_interval_data() -> None:
    assert krippendorff_alpha(KRIPPENDORFF_2011) == pytest.approx(0.849, abs=5e-4)


def test_both_intraclass_correlations_are_those_of_shrout_and_fleiss() -> None:
    single, mean = intraclass(SHROUT_FLEISS_1979) or (0, 0)
    assert (round(single, 2), round(mean, 2)) == (0.29, 0.62)


def test_alpha_is_one_for_perfect_agreement_and_about_zero_for_chance() -> None:
    rng = np.random.default_rng(0)
    same = np.repeat(rng.integers(1, 11, (40, 1)).astype(float), 3, axis=1)
    assert krippendorff_alpha(same) == pytest.approx(1.0)
    assert abs(krippendorff_alpha(rng.integers(1, 11, (4000, 3)).astype(float)) or 1) < 0.05


def test_alpha_does_not_change_with_the_unit_or_the_order_of_raters() -> None:
    other = 7 - 3 * KRIPPENDORFF_2011[:, ::-1]
    assert krippendorff_alpha(other) == pytest.approx(krippendorff_alpha(KRIPPENDORFF_2011))


def test_images_with_one_rater_do_not_count_towards_alpha() -> None:
    alone = np.array([[9.0, NAN, NAN, NAN]])
    assert krippendorff_alpha(np.vstack([KRIPPENDORFF_2011, alone])) == pytest.approx(krippendorff_alpha(KRIPPENDORFF_2011))


@pytest.mark.parametrize(("scores", "why"), [
    ([[7, NAN], [5, NAN]], "one rater only"), ([[7, 7], [7, 7]], "all scores are equal"),
    ([[7, 6], [5, NAN]], "fewer than two images")])
def test_where_alpha_says_nothing_it_is_absent_with_a_reason(scores: list[list[float]], why: str) -> None:
    found = agreement(np.array(scores, dtype=float))
    assert found.alpha is None
    assert why in found.why


def test_the_interval_of_alpha_holds_its_value_and_is_the_same_each_time() -> None:
    rng = np.random.default_rng(1)
    quality = rng.normal(6, 2, (60, 1))
    scores = quality + rng.normal(0, 1, (60, 3))
    one, two = agreement(scores), agreement(scores)
    assert one == two
    assert one.low is not None
    assert one.high is not None
    assert one.low < 4 / 5 < one.high  # variance of quality 4 of 4 + 1


def test_a_milder_rater_stands_out_by_as_much_as_they_are_milder() -> None:
    base = np.array([[3.0, 3, 3], [8, 8, 8], [5, 5, NAN]])
    assert offsets(base + np.array([0, 0, 1.5])) == pytest.approx([-0.5, -0.5, 1.5])
    assert offsets(np.array([[3.0, NAN], [NAN, 4.0]])) == [None, None]


def test_raters_who_differ_in_level_alone_agree_perfectly_once_it_is_taken_off() -> None:
    base = np.array([[3.0, 5, 1], [8, 10, 6], [5, 7, NAN]])
    assert (krippendorff_alpha(base) or 0) < 0.7
    level = centred(base)
    assert level is not None
    assert krippendorff_alpha(level) == pytest.approx(1.0)
    assert centred(base[:1]) is None


def test_a_retest_counts_pairs_distance_and_those_within_a_point() -> None:
    found = retest([5, 7, 9], [5, 8, 4])
    assert found is not None
    assert (found.pairs, found.apart, found.close) == (3, 2.0, 2)
    assert retest([], []) is None


def test_two_candidates_have_the_odds_of_their_wins_with_the_prior_half_wins() -> None:
    low, high = bradley_terry(np.array([[0.0, 3], [9, 0]]))
    assert high - low == pytest.approx(math.log(9.5 / 3.5))


def test_the_wins_expected_of_strengths_are_those_that_were_seen() -> None:
    wins = np.array([[0.0, 7, 1], [2, 0, 30], [4, 5, 0]])
    odds = np.exp(bradley_terry(wins))
    seen = wins + 0.5 * (1 - np.eye(3))
    expected = (seen + seen.T) * odds[:, None] / (odds[:, None] + odds)
    assert expected.sum(axis=1) == pytest.approx(seen.sum(axis=1), rel=1e-6)


def test_planted_strengths_are_found_again() -> None:
    true, rng = np.array([-0.8, 0.0, 0.8]), np.random.default_rng(2)
    wins = np.zeros((200, 3, 3))
    for prompt in wins:
        for i in range(3):
            for j in range(i):
                won = rng.binomial(10, 1 / (1 + math.exp(true[j] - true[i])))
                prompt[i, j], prompt[j, i] = won, 10 - won
    found, ends = strengths(wins)
    assert ends is not None
    assert found == pytest.approx(true, abs=0.12)
    assert ((ends[0] < true) & (true < ends[1])).all()


def test_candidates_that_never_met_have_no_strengths() -> None:
    apart = np.zeros((4, 4))
    apart[0, 1] = apart[2, 3] = 1
    with pytest.raises(ValueError, match="never met"):
        bradley_terry(apart)


def test_one_who_won_all_has_a_finite_strength() -> None:
    assert np.isfinite(bradley_terry(np.array([[0.0, 20], [0, 0]]))).all()
