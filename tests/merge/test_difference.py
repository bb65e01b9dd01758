"""Differences that are changed before they are added, by hand."""

import pytest
import torch

from harness.merge import difference
from harness.merge import geometric as powers

T = torch.tensor


def test_a_train_difference_by_hand():
    # B - C = 2, |B - A| = 4, |B - C| = 2: 1 + 1.8 * 0.5 * 2 * 4 / 6
    assert difference.train_difference(T([1.0]), T([5.0]), T([3.0]), 0.5).item() == pytest.approx(2.2)


def test_a_train_difference_adds_nothing_where_a_is_b_already():
    assert difference.train_difference(T([5.0]), T([5.0]), T([3.0]), 1.0).tolist() == [5.0]


def test_similarity_add_by_hand():
    # s = 0.5, share 0.5 * 0.75; added 2 + 0.5 * 0; mean 2 + 0.25 * (1 - 2)
    assert difference.similarity_add(T([2.0]), T([1.0]), T([1.0]), 0.5, 0.5).tolist() == [2 - 0.375 * 0.25]


def test_similarity_add_averages_equal_values_and_adds_to_opposite_ones():
    a, b, c = T([1.0, 1.0]), T([1.0, -1.0]), T([0.0, 0.0])
    assert difference.similarity_add(a, b, c, 1.0, 1.0).tolist() == [1.0, 0.0]


def test_similarity_add_takes_two_zeros_for_alike():
    zero = T([0.0])
    assert difference.similarity_add(zero, zero, T([4.0]), 1.0, 1.0).tolist() == [0.0]
    assert difference.similarity_add(zero, zero, T([4.0]), 1.0, 0.0).tolist() == [-4.0]


def test_perpendicular_by_hand():
    merged = difference.perpendicular(T([1.0, 0.0]), T([3.0, 2.0]), T([0.0, 0.0]), 0.5)
    assert merged.tolist() == [1.0, 1.0]


def test_perpendicular_adds_nothing_when_the_differences_are_parallel():
    c = torch.randn(40).round()
    delta = torch.randn(40).mul_(8).round()
    assert torch.equal(difference.perpendicular(c + delta, c - 2 * delta, c, 0.7), c + delta)


def test_what_perpendicular_adds_is_at_right_angles_to_what_a_learnt():
    a, b, c = (torch.randn(6, 7, dtype=torch.float64) for _ in range(3))
    added = difference.perpendicular(a, b, c, 1.0) - a
    assert abs(((a - c) * added).sum()) < 1e-12


def test_perpendicular_to_nothing_is_the_added_difference():
    a, b = torch.randn(9), torch.randn(9)
    assert torch.equal(difference.perpendicular(a, b, a, 1.0), a.sub(a.sub(b)))


def test_multiply_difference_by_hand():
    # differences 4 and 9: their geometric mean is 6
    assert powers.multiply_difference(T([5.0]), T([10.0]), T([1.0]), 0.5, 0.0).tolist() == [7.0]


def test_the_sign_of_a_multiplied_difference_is_voted_on_with_beta():
    a, b, c = T([-3.0]), T([10.0]), T([1.0])
    assert [powers.multiply_difference(a, b, c, 0.5, beta).item() for beta in (0.0, 1.0)] == [-5.0, 7.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_vote_that_is_a_tie_but_for_rounding_leaves_c(dtype):
    a, b, c = (T([x], dtype=dtype) for x in (3.0, -2.0, 1.0))
    assert powers.multiply_difference(a, b, c, 0.5, 0.4).tolist() == [1.0]


def test_multiply_difference_at_its_corners_is_a_and_b_up_to_rounding():
    a, b, c = (torch.randn(40, dtype=torch.float64) for _ in range(3))
    torch.testing.assert_close(powers.multiply_difference(a, b, c, 0.0, 0.0), a, rtol=0, atol=1e-15)
    torch.testing.assert_close(powers.multiply_difference(a, b, c, 1.0, 1.0), b, rtol=0, atol=1e-15)


@pytest.mark.parametrize(("a", "b", "mean"), [(4.0, 9.0, 6.0), (-4.0, -9.0, -6.0), (-4.0, 9.0, 0.0), (4.0, 0.0, 0.0)])
def test_a_geometric_mean_by_hand(a, b, mean):
    assert powers.geometric(T([a]), T([b]), 0.5).tolist() == [mean]


def test_a_geometric_mean_of_unlike_signs_turns_with_alpha():
    # (-16)**0.75 * 1 = 8 * exp(0.75 i pi)
    assert powers.geometric(T([-16.0]), T([1.0]), 0.25).item() == pytest.approx(-8 * 0.5 ** 0.5)
