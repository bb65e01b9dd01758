"""Crossovers by hand, against numpy's transform of both sides, and the mean of the filter."""

import numpy as np
import pytest
import torch

from harness.merge import frequency
from harness.merge.linear import weighted_sum


def test_low_frequencies_are_as_and_high_ones_bs():
    # mean 1 and swing 1; mean 5 and swing 3
    a, b = torch.tensor([2.0, 0.0, 2.0, 0.0]), torch.tensor([8.0, 2.0, 8.0, 2.0])
    torch.testing.assert_close(frequency.crossover(a, b, 0.25, 0.0), torch.tensor([4.0, -2.0, 4.0, -2.0]))


def test_a_distribution_crossover_goes_along_the_order_of_c():
    a, b = torch.tensor([2.0, 0.0, 2.0, 0.0]), torch.tensor([8.0, 2.0, 8.0, 2.0])
    order = torch.tensor([2, 0, 3, 1])
    c = torch.empty(4)
    c[order] = torch.arange(4.0)
    moved_a, moved_b, expected = (torch.empty(4) for _ in range(3))
    for moved, values in ((moved_a, a), (moved_b, b), (expected, torch.tensor([4.0, -2.0, 4.0, -2.0]))):
        moved[order] = values
    torch.testing.assert_close(frequency.distribution_crossover(moved_a, moved_b, c, 0.25, 0.0), expected)


@pytest.mark.parametrize("shape", [(), (1,), (9,), (6, 7), (1, 5), (5, 1), (4, 3, 3, 3)])
def test_full_tilt_is_the_weighted_sum(shape):
    a, b, c = (torch.randn(shape, dtype=torch.float64) for _ in range(3))
    expected = weighted_sum(a, b, 0.3)
    torch.testing.assert_close(frequency.crossover(a, b, 0.3, 1.0), expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(frequency.distribution_crossover(a, b, c, 0.3, 1.0), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(8, 10), (7, 9), (8, 9), (7, 10)])
@pytest.mark.parametrize("tilt", [0.0, 0.3, 0.7])
def test_a_crossover_is_that_of_the_whole_transforms_in_numpy(shape, tilt):
    a, b = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    down, along = (2 * abs(np.fft.fftfreq(n)) for n in shape)
    place = np.maximum(down[:, None], along[None, :]) ** 2
    w = frequency._share_of_b(torch.from_numpy(place), 0.4, tilt).numpy()
    whole = np.fft.ifft2((1 - w) * np.fft.fft2(a.numpy()) + w * np.fft.fft2(b.numpy()))
    assert abs(whole.imag).max() < 1e-14
    np.testing.assert_allclose(frequency.crossover(a, b, 0.4, tilt).numpy(), whole.real, rtol=0, atol=1e-13)


@pytest.mark.parametrize("tilt", [0.0, 0.01, 0.3, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("alpha", [0.05, 0.3, 0.5, 0.95])
def test_the_mean_share_of_b_is_alpha(alpha, tilt):
    places = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    share = frequency._share_of_b(places, alpha, tilt)
    assert float(share.mean()) == pytest.approx(alpha, abs=1e-4)
    assert (share.diff() >= 0).all()


def test_places_of_frequencies_are_spread_evenly():
    places = frequency._places(torch.zeros(200, 300))
    # The half of the spectrum that is stored stands for the whole.
    for limit in (0.1, 0.25, 0.5, 0.9):
        assert float((places <= limit).double().mean()) == pytest.approx(limit, abs=0.01)
