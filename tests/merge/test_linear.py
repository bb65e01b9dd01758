"""Sums, averages and subtractions by hand, and the bits of zero."""

import pytest
import torch

from harness.merge import linear
from tests.benchmarks.rounding import BITS, distances

T = torch.tensor


def test_an_average_by_hand():
    models = [T([1.0]), T([4.0]), T([10.0])]
    assert linear.weighted_average(models, [1, 1, 2]).tolist() == [6.25]


def test_weights_of_an_average_are_relative():
    models = [torch.randn(50, dtype=torch.float64) for _ in range(3)]
    torch.testing.assert_close(linear.weighted_average(models, [1, 2, 3]), linear.weighted_average(models, [10, 20, 30]),
                               rtol=1e-15, atol=1e-15)


def test_an_average_in_which_one_model_has_all_the_weight_is_that_model():
    models = [torch.randn(5) for _ in range(3)]
    assert linear.weighted_average(models, [0, 2, 0]) is models[1]


@pytest.mark.parametrize("weights", [[0, 0], [1, -0.5], [1]])
def test_an_average_refuses_weights_that_give_none(weights):
    with pytest.raises(ValueError, match="above 0"):
        linear.weighted_average([T([1.0]), T([2.0])], weights)


def test_sum_twice_by_hand():
    assert linear.sum_twice(T([1.0]), T([3.0]), T([10.0]), 0.5, 0.25).tolist() == [4.0]


def test_triple_sum_by_hand():
    assert linear.triple_sum(T([1.0]), T([3.0]), T([10.0]), 0.5, 0.25).tolist() == [4.25]


def test_a_triple_sum_of_shares_above_1_subtracts_a():
    assert linear.triple_sum(T([1.0]), T([3.0]), T([10.0]), 1.0, 1.0).tolist() == [12.0]


def test_a_triple_sum_at_its_corners_is_one_of_the_models():
    a, b, c = (torch.randn(5) for _ in range(3))
    assert linear.triple_sum(a, b, c, 0, 0) is a
    assert linear.triple_sum(a, b, c, 1, 0) is b
    assert linear.triple_sum(a, b, c, 0, 1) is c


def test_sum_twice_is_the_triple_sum_of_other_shares():
    a, b, c = (torch.randn(50, dtype=torch.float64) for _ in range(3))
    for alpha, beta in ((0.3, 0.4), (0.9, 0.1), (1.0, 0.5)):
        torch.testing.assert_close(linear.sum_twice(a, b, c, alpha, beta),
                                   linear.triple_sum(a, b, c, alpha * (1 - beta), beta), rtol=0, atol=1e-15)


def test_a_weighted_subtraction_takes_out_what_a_sum_put_in():
    x, b = torch.randn(50, dtype=torch.float64), torch.randn(50, dtype=torch.float64)
    mixed = linear.weighted_sum(x, b, 0.25)
    torch.testing.assert_close(linear.weighted_subtraction(mixed, b, 0.5, 0.5), x, rtol=0, atol=1e-14)


def test_a_weighted_subtraction_of_everything_is_refused():
    with pytest.raises(ValueError, match="lower alpha or beta"):
        linear.weighted_subtraction(T([1.0]), T([2.0]), 1.0, 1.0)


@pytest.mark.parametrize("alpha", [-2.0, -0.5, 1e-6, 0.3, 0.5, 2.0])
def test_an_added_difference_of_zero_keeps_negative_zeros(alpha):
    a, b = T([-0.0, 0.0, 1.0]), T([5.0, 5.0, 5.0])
    assert linear.add_difference(a, b, b, alpha).signbit().tolist() == [True, False, False]


@pytest.mark.parametrize("alpha", [1e-6, 2.0 ** -10, 0.3, 0.499, 0.5, 0.9])
def test_a_weighted_sum_of_equal_values_keeps_negative_zeros(alpha):
    a = T([-0.0, 0.0, 1.0])
    assert linear.weighted_sum(a, a.clone(), alpha).signbit().tolist() == [True, False, False]


def test_a_tiny_alpha_is_not_lost_where_a_is_zero():
    exact = 1e-6 * 0.7
    assert linear.weighted_sum(T([0.0]), T([0.7]), 1e-6).item() == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.37, 0.5, 0.7, 0.9])
def test_a_weighted_sum_is_rounded_to_a_nearest_number_up_to_ties(dtype, alpha):
    most, share = distances(dtype, alpha, 200_000)
    assert most <= 0.5 + 2.0 ** -20
    # Of two numbers as near as each other, another program may take the other one.
    assert share <= (0.013 if alpha != 0.5 else 0)
