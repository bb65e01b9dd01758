"""Arcs between models and means on the sphere: by hand, and what is known of them."""

import math

import numpy as np
import pytest
import torch

from harness.merge import spherical as sphere
from harness.merge.linear import weighted_average, weighted_sum

T = torch.tensor
HALF = math.sqrt(0.5)


def drawn(*shape: int, count: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)]


def test_a_quarter_turn_by_hand():
    assert sphere.slerp(T([1.0, 0.0]), T([0.0, 1.0]), 0.5).tolist() == pytest.approx([HALF, HALF])
    third = sphere.slerp(T([1.0, 0.0]), T([0.0, 1.0]), 1 / 3)
    assert third.tolist() == pytest.approx([math.cos(math.pi / 6), math.sin(math.pi / 6)])


def test_norms_go_along_the_line_in_slerp_and_not_in_nuslerp():
    a, b = T([1.0, 0.0]), T([0.0, 3.0])
    assert sphere.slerp(a, b, 0.5).tolist() == pytest.approx([2 * HALF, 2 * HALF])
    assert sphere.nuslerp(a, b, 0.5, 0).tolist() == pytest.approx([HALF, 3 * HALF])


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.8])
def test_slerp_keeps_the_norm_between_unit_vectors(alpha):
    a, b = (t / t.norm() for t in drawn(6, 5, 3))
    assert sphere.slerp(a, b, alpha).norm().item() == pytest.approx(1, abs=1e-14)


def test_slerp_goes_the_same_way_back():
    a, b = drawn(20)
    torch.testing.assert_close(sphere.slerp(a, b, 0.3), sphere.slerp(b, a, 0.7), rtol=0, atol=1e-14)


@pytest.mark.parametrize("angle", [1e-1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-12, 0.0])
def test_nearly_parallel_directions_go_over_into_the_weighted_sum_without_a_jump(angle):
    a = T([2.0, 0.0], dtype=torch.float64)
    b = T([2 * math.cos(angle), 2 * math.sin(angle)], dtype=torch.float64)
    on_the_arc = T([2 * math.cos(0.3 * angle), 2 * math.sin(0.3 * angle)], dtype=torch.float64)
    for merged in (sphere.slerp(a, b, 0.3), sphere.nuslerp(a, b, 0.3, 0)):
        torch.testing.assert_close(merged, on_the_arc, rtol=0, atol=1e-14)
        assert (merged - weighted_sum(a, b, 0.3)).abs().max() <= angle ** 2


def test_opposite_directions_and_zeros_are_merged_by_the_weighted_sum():
    a = T([1.0, 2.0])
    for b in (-3 * a, a * 0):
        torch.testing.assert_close(sphere.slerp(a, b, 0.25), weighted_sum(a, b, 0.25))
        torch.testing.assert_close(sphere.nuslerp(a, b, 0.25, 1), weighted_sum(a, b, 0.25))
    torch.testing.assert_close(sphere.slerp(a * 0, a, 0.25), 0.25 * a)
    assert sphere.slerp(T(0.5), T(-0.3), 0.5).item() == pytest.approx(0.1)


def test_values_whose_squares_leave_float32_are_merged():
    a, b = T([1e30, 0.0]), T([0.0, 1e30])
    assert sphere.slerp(a, b, 0.5).tolist() == pytest.approx([HALF * 1e30, HALF * 1e30])
    assert sphere.slerp(a * 1e-60, b * 1e-60, 0.5).tolist() == pytest.approx([HALF * 1e-30, HALF * 1e-30])


def test_by_row_each_row_is_a_vector_of_its_own():
    a, b = drawn(4, 3, 2, 2)
    merged = sphere.nuslerp(a, b, 0.3, 1)
    for i in range(4):
        torch.testing.assert_close(merged[i], sphere.nuslerp(a[i], b[i], 0.3, 0), rtol=0, atol=1e-15)
    assert not torch.allclose(merged, sphere.nuslerp(a, b, 0.3, 0))


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 3.0), (0.9, 0.1)])
def test_the_karcher_mean_of_two_is_their_slerp(weights):
    a, b = drawn(30)
    expected = sphere.slerp(a, b, weights[1] / sum(weights))
    torch.testing.assert_close(sphere.karcher([a, 2 * b], weights) / sphere.karcher([a, 2 * b], weights).norm(),
                               expected / expected.norm(), rtol=0, atol=1e-10)
    torch.testing.assert_close(sphere.karcher([a, b], weights), expected, rtol=0, atol=1e-10)


def test_the_karcher_mean_of_three_axes_by_hand():
    models = [T([1.0, 0, 0]), T([0, 2.0, 0]), T([0, 0, 3.0])]
    assert sphere.karcher(models, [1, 1, 1]).tolist() == pytest.approx([2 / math.sqrt(3)] * 3)


def test_at_the_karcher_mean_the_logarithms_cancel_out():
    models, weights = drawn(12, count=4), np.array([1.0, 2.0, 0.5, 1.0])
    mean = sphere.karcher(models, weights.tolist()).numpy()
    mean = mean / np.linalg.norm(mean)
    total = np.zeros(12)
    for model, weight in zip(models, weights, strict=True):
        unit = model.numpy() / np.linalg.norm(model.numpy())
        angle = np.arccos(unit @ mean)
        total += weight * angle / np.sin(angle) * (unit - np.cos(angle) * mean)
    assert abs(total).max() < 1e-10


def test_a_tensor_of_zeros_counts_for_the_norm_of_the_karcher_mean_alone():
    a = T([3.0, 4.0])
    torch.testing.assert_close(sphere.karcher([a, a * 0], [1, 1]), a / 2)
    assert sphere.karcher([a * 0, a * 0], [1, 1]).tolist() == [0, 0]


def test_directions_that_cancel_out_are_averaged():
    models = [T([1.0, 0.0]), T([-3.0, 0.0])]
    assert torch.equal(sphere.karcher(models, [1, 1]), weighted_average(models, [1, 1]))
