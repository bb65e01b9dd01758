"""Low ranks and rotations: by hand, and against numpy's and scipy's decompositions."""

import math

import numpy as np
import pytest
import torch
from scipy import linalg

from harness.merge import linear, spectral


def drawn(*shape: int, count: int = 3, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(count)]


def turn(degrees: float) -> torch.Tensor:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return torch.tensor([[c, s], [-s, c]], dtype=torch.float64)


def test_the_largest_singular_value_by_hand():
    a, c = torch.zeros(2, 2), torch.ones(2, 2)
    b = c + torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(spectral.rank_k(a, b, c, 0.5, 1), torch.tensor([[1.5, 0.0], [0.0, 0.0]]))


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (7, 7), (5, 4, 3, 3)])
@pytest.mark.parametrize("rank", [1, 3])
def test_a_low_rank_is_that_of_numpys_decomposition(shape, rank):
    a, b, c = drawn(*shape)
    u, s, v = np.linalg.svd((b - c).reshape(shape[0], -1).numpy(), full_matrices=False)
    exact = a.numpy() + 0.7 * ((u[:, :rank] * s[:rank]) @ v[:rank]).reshape(shape)
    np.testing.assert_allclose(spectral.rank_k(a, b, c, 0.7, rank).numpy(), exact, rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape", [(), (5,), (6, 9), (9, 6), (5, 4, 3, 3)])
def test_the_full_rank_is_the_added_difference(shape):
    a, b, c = drawn(*shape, dtype=torch.float32)
    full = 1 if len(shape) < 2 else min(shape[0], math.prod(shape[1:]))
    assert torch.equal(spectral.rank_k(a, b, c, 0.7, full), linear.add_difference(a, b, c, 0.7))


def test_a_difference_of_low_rank_is_added_whole():
    a, c, _ = drawn(20, 30)
    left, right = torch.randn(20, 2, dtype=torch.float64), torch.randn(2, 30, dtype=torch.float64)
    torch.testing.assert_close(spectral.rank_k(a, c + left @ right, c, 1.0, 2), a + left @ right, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(9, 4), (4, 9), (6, 6)])
def test_a_model_that_is_a_turned_and_moved_is_arrived_at(shape):
    side = min(shape)
    a, draw, = drawn(*shape, count=1)[0], torch.randn(side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    q = torch.linalg.qr(draw).Q
    q[:, 0] *= torch.linalg.det(q).sign()
    points = a.T if shape[0] < shape[1] else a
    b = points @ q + torch.arange(side, dtype=torch.float64)
    b = b.T if shape[0] < shape[1] else b
    torch.testing.assert_close(spectral.rotate(a, b, 1.0), b, rtol=0, atol=1e-12)


def test_half_of_a_quarter_turn_by_hand():
    a = torch.tensor([[1.0, 0], [-1, 0], [0, 2], [0, -2]], dtype=torch.float64)
    torch.testing.assert_close(spectral.rotate(a, a @ turn(90), 0.5), a @ turn(45), rtol=0, atol=1e-14)


def test_a_half_turn_is_taken_within_one_plane():
    a = torch.tensor([[1.0, 0], [-1, 0], [0, 2], [0, -2]], dtype=torch.float64)
    merged = spectral.rotate(a, -a, 0.5)
    torch.testing.assert_close(merged.norm(dim=1), a.norm(dim=1))
    torch.testing.assert_close(merged[:, 0].abs(), a[:, 1].abs())


def test_turning_is_by_the_rotation_alone_and_never_a_reflection():
    product = torch.diag(torch.tensor([3.0, 2.0, -1.0], dtype=torch.float64))
    torch.testing.assert_close(spectral.nearest_rotation(product), torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize("size", [2, 3, 8, 31])
@pytest.mark.parametrize("power", [0.1, 0.5, 0.9])
def test_powers_of_a_rotation_are_scipys(size, power):
    q = spectral.nearest_rotation(drawn(size, size, count=1)[0])
    exact = linalg.fractional_matrix_power(q.numpy(), power)
    np.testing.assert_allclose(spectral.rotation_power(q, power).numpy(), exact.real, rtol=0, atol=1e-10)


@pytest.mark.parametrize("degrees", [1e-9, 1e-5, 1.0, 179.0, 179.9999, 180 - 1e-7, 180.0])
def test_powers_of_small_and_large_turns_stay_rotations(degrees):
    half = spectral.rotation_power(turn(degrees), 0.5)
    torch.testing.assert_close(half @ half.T, torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-9)
    if degrees < 180 - 1e-4:
        torch.testing.assert_close(half, turn(degrees / 2), rtol=0, atol=1e-9)


def test_the_rotation_is_scipys_procrustes():
    a, b, _ = drawn(12, 5)
    a_centred, b_centred = (t - t.mean(0) for t in (a, b))
    exact, _ = linalg.orthogonal_procrustes(a_centred.numpy(), b_centred.numpy())
    found = spectral.nearest_rotation(a_centred.T @ b_centred).numpy()
    if np.linalg.det(exact) > 0:
        np.testing.assert_allclose(found, exact, atol=1e-12)
    assert np.linalg.det(found) == pytest.approx(1)


def test_biases_are_merged_by_the_weighted_sum():
    a, b, _ = drawn(9)
    assert torch.equal(spectral.rotate(a, b, 0.3), linear.weighted_sum(a, b, 0.3))
