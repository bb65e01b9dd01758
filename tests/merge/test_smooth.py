"""The smoothed difference against scipy's filters."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from harness.merge import smooth


def reference(delta: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(ndimage.median_filter(delta, size=3), sigma=1)


@pytest.mark.parametrize("shape", [(), (1,), (2,), (5,), (40,), (1, 7), (7, 1), (2, 3), (3, 2), (30, 41)])
def test_biases_and_matrices_are_filtered_as_scipy_and_supermerger_filter_them(shape):
    a, b, c = (torch.randn(shape, dtype=torch.float64) for _ in range(3))
    exact = a.numpy() + 0.7 * reference((b - c).numpy()) if shape else (a + 0.7 * (b - c)).numpy()
    np.testing.assert_allclose(smooth.smooth_add(a, b, c, 0.7).numpy(), exact, rtol=0, atol=1e-14)


def test_a_convolution_is_filtered_as_the_matrix_of_its_outputs():
    a, b, c = (torch.randn(6, 5, 3, 3, dtype=torch.float64) for _ in range(3))
    flat = smooth.smooth_add(*(t.reshape(6, 45) for t in (a, b, c)), 0.7)
    assert torch.equal(smooth.smooth_add(a, b, c, 0.7), flat.reshape(6, 5, 3, 3))
    np.testing.assert_allclose(flat.numpy(), a.reshape(6, 45).numpy() + 0.7 * reference((b - c).reshape(6, 45).numpy()),
                               rtol=0, atol=1e-14)


def test_the_median_is_exact():
    values = torch.randn(50, 60)
    assert np.array_equal(smooth.median_3x3(values).numpy(), ndimage.median_filter(values.numpy(), size=3))


def test_a_tensor_filtered_in_pieces_is_the_one_filtered_whole(monkeypatch):
    values = torch.randn(203, 30)
    whole = smooth.smooth(values)
    monkeypatch.setattr(smooth, "PIECE", 1)
    assert torch.equal(smooth.smooth(values), whole)
    np.testing.assert_allclose(whole.numpy(), reference(values.double().numpy()), rtol=0, atol=1e-6)


def test_a_single_outlier_is_not_added():
    a, c = torch.randn(9, 9), torch.zeros(9, 9)
    b = c.clone()
    b[4, 4] = 100
    assert torch.equal(smooth.smooth_add(a, b, c, 1.0), a)


def test_a_constant_difference_is_added_as_it_is():
    a = torch.zeros(20, 30, dtype=torch.float64)
    torch.testing.assert_close(smooth.smooth_add(a, a + 2, a, 0.5), a + 1, rtol=1e-15, atol=0)
