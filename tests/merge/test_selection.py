"""Swaps by row and by rank, and the masks under them."""

import numpy as np
import pytest
import torch

from harness.merge import selection

A, B = torch.zeros(4, 2), torch.ones(4, 2)


@pytest.mark.parametrize(("alpha", "beta", "rows"), [
    (0.5, 0.25, [0, 1, 1, 0]), (0.5, 0.75, [1, 0, 0, 1]), (0.5, 1.0, [1, 1, 0, 0]), (0.2, 0.0, [0, 0, 0, 0]),
    (1.0, 0.6, [1, 1, 1, 1])])
def test_rows_from_b_by_hand(alpha, beta, rows):
    assert selection.tensor_sum(A, B, alpha, beta)[:, 0].tolist() == rows


def test_rows_of_a_convolution_and_of_a_bias():
    assert selection.tensor_sum(torch.zeros(4, 2, 3, 3), torch.ones(4, 2, 3, 3), 0.25, 0.5).sum() == 18
    assert selection.tensor_sum(torch.zeros(4), torch.ones(4), 0.25, 0.5).tolist() == [0, 0, 1, 0]


def test_a_share_that_is_whole_but_for_rounding_is_whole():
    # 0.29 * 100 is 28.999999999999996
    assert selection.tensor_sum(torch.zeros(100), torch.ones(100), 0.29, 0.0).sum() == 29


def test_values_from_b_by_rank_by_hand():
    a, b = torch.tensor([4.0, -1.0, 3.0, 2.0]), torch.full((4,), 10.0)
    assert selection.top_k_tensor_sum(a, b, 0.5, 0.0).tolist() == [4, 10, 3, 10]
    assert selection.top_k_tensor_sum(a, b, 0.5, 0.5).tolist() == [10, -1, 10, 2]
    assert selection.top_k_tensor_sum(a, b, 0.5, 0.75).tolist() == [10, 10, 3, 2]


def test_equal_magnitudes_are_ranked_in_storage_order():
    a, b = torch.tensor([1.0, -1.0, 1.0, 1.0]), torch.zeros(4)
    assert selection.top_k_tensor_sum(a, b, 0.5, 0.0).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("kinds", [1, 3, 10 ** 6])
def test_the_lowest_are_those_of_a_stable_sort(size, kinds):
    values = torch.randint(0, kinds, (size,)).float()
    order = np.argsort(values.numpy(), kind="stable")
    for count in {0, 1, size // 3, size - 1, size}:
        expected = np.zeros(size, dtype=bool)
        expected[order[:count]] = True
        assert np.array_equal(selection.lowest(values, count).numpy(), expected)
        assert np.array_equal(selection.highest(values, size - count).numpy(), ~expected)


def test_row_ranks_are_those_of_a_stable_sort():
    values = torch.randint(0, 5, (6, 4, 3)).float()
    order = values.reshape(6, 12).numpy().argsort(axis=1, kind="stable")
    assert np.array_equal(selection.row_ranks(values).numpy(), order.argsort(axis=1))


@pytest.mark.parametrize(("share", "size", "count"), [(0.2, 5, 1), (0.01, 5, 1), (0.0, 5, 0), (1.0, 5, 5), (0.5, 5, 3)])
def test_a_share_above_0_keeps_at_least_one_value(share, size, count):
    assert selection.round_share(share, size) == count
