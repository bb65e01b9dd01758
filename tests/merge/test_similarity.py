"""Merges by cosine similarity, by hand."""

import numpy as np
import pytest
import torch

from harness.merge import similarity

# Column 0 has one direction in both, column 1 is at right angles.
A = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
B = torch.tensor([[3.0, 1.0], [0.0, 0.0]])


def test_similarities_by_hand():
    # Whole tensor: 1 / (sqrt 2 * sqrt 2) with columns of norm 1, 3 / (sqrt 2 * sqrt 10) as they are.
    assert similarity.survey_a(A, B).tolist() == pytest.approx([0.75, 0.25])
    whole = 3 / 20 ** 0.5
    assert similarity.survey_b(A, B).tolist() == pytest.approx([(1 + whole) / 2, whole / 2])


def test_a_computed_cosine_decides_over_each_column():
    # model-mixer computes it and then leaves A as it is. k is 1 - 0.25 for column 0 and 0 for column 1.
    merged = similarity.cosine_a(A, B, 0.25, (0.25, 0.75))
    torch.testing.assert_close(merged, torch.tensor([[0.75 * 1 + 0.25 * 3, 1.0], [0.0, 0.0]]))
    low, high = sorted(similarity.survey_b(A, B).tolist())
    torch.testing.assert_close(similarity.cosine_b(A, B, 0.25, (low, high)), merged)


def test_at_alpha_0_unlike_columns_are_replaced_already():
    merged = similarity.cosine_a(A, B, 0.0, (0.25, 0.75))
    assert merged.tolist() == [[1.0, 1.0], [0.0, 0.0]]


def test_limits_that_are_equal_make_a_step():
    for limits, column in (((0.5, 0.5), [1.0, 0.0]), ((0.9, 0.9), [3.0, 0.0]), ((0.0, 0.0), [1.0, 0.0])):
        merged = similarity.cosine_a(A, B, 0.0, limits)
        assert merged[:, 0].tolist() == column


def test_a_column_of_zeros_is_like_another_and_at_right_angles_to_any_other():
    a, b = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.0, 1.0, 1.0]])
    whole = 1 / 2 ** 0.5
    assert similarity.survey_b(a, b).tolist() == pytest.approx([(x + whole) / 2 for x in (1, 0, 1)])
    assert similarity.survey_b(a * 0, b * 0).tolist() == [1, 1, 1]


def test_equal_models_are_alike_exactly():
    a = torch.randn(30, 20, 3, 3)
    assert similarity.survey_a(a, a.clone()).eq(1).all()
    assert similarity.survey_b(a, a.clone()).eq(1).all()


@pytest.mark.parametrize("shape", [(40,), (40, 30), (4, 3, 3, 3)])
def test_similarities_are_those_of_numpy(shape):
    a, b = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    x, y = (t.numpy().reshape(shape[0], -1) for t in (a, b))
    x, y = x / np.linalg.norm(x, axis=0), y / np.linalg.norm(y, axis=0)
    whole = (x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y)
    np.testing.assert_allclose(similarity.survey_a(a, b).numpy(), ((x * y).sum(0) + whole) / 2, atol=1e-14)


@pytest.mark.parametrize("count", [1, 2, 3, 99, 100, 101, 1000])
def test_limits_are_the_quantiles_of_numpy(count):
    values = torch.randn(count, dtype=torch.float64)
    assert similarity.limits_of(values) == pytest.approx(tuple(np.quantile(values.numpy(), [0.01, 0.99])), abs=1e-14)


def test_limits_of_nothing_and_of_one_value_do_not_divide_by_zero():
    assert similarity.limits_of(torch.zeros(0)) == (0.0, 0.0)
    assert similarity.cosine_b(A, B, 0.3, similarity.limits_of(torch.ones(5))).isfinite().all()
    assert similarity.survey_a(torch.zeros(0), torch.zeros(0)).shape == (0,)
    assert similarity.survey_a(torch.zeros(3, 0), torch.zeros(3, 0)).shape == (0,)


def test_limits_of_more_values_than_torch_quantile_takes():
    low, high = similarity.limits_of(torch.arange(2 ** 24 + 1, dtype=torch.float64))
    assert (low, high) == pytest.approx((0.01 * 2 ** 24, 0.99 * 2 ** 24))
