"""Model stock and the geometric median: by hand, and what is known of them."""

import math

import pytest
import torch

from harness.merge import consensus

T = torch.tensor


def test_model_stock_of_differences_at_right_angles_is_the_base():
    base = T([1.0, 1.0])
    assert torch.equal(consensus.model_stock([base + T([2.0, 0]), base + T([0, 3.0])], base, 1.0), base)


def test_model_stock_of_equal_models_is_that_model():
    model = T([3.0, 1.0, -2.0])
    torch.testing.assert_close(consensus.model_stock([model, model, model], T([1.0, 0.0, 0.0]), 1.0), model)


@pytest.mark.parametrize(("cosine", "share"), [(0.5, 2 / 3), (0.8, 1.6 / 1.8), (0.2, 0.4 / 1.2)])
def test_model_stock_puts_its_factor_on_the_mean_and_not_on_the_base(cosine, share):
    # t = N cos / (1 + (N - 1) cos), here of two; sd-mecha 1.1.8 looks inverted.
    first, second = T([1.0, 0.0]), T([cosine, math.sqrt(1 - cosine ** 2)])
    base = T([5.0, -2.0])
    merged = consensus.model_stock([base + first, base + second], base, 1.0)
    torch.testing.assert_close(merged, share * (base + (first + second) / 2) + (1 - share) * base)


def test_model_stock_of_three_by_hand():
    # cosines 1/2, 1/2 and 1/2: t = 1.5 / 2
    models = [T([1.0, 1, 0]), T([0, 1.0, 1]), T([1.0, 0, 1])]
    torch.testing.assert_close(consensus.model_stock(models, torch.zeros(3), 1.0), torch.full((3,), 0.75 * 2 / 3))


def test_alpha_scales_the_way_from_the_base():
    models, base = [T([1.0, 1, 0]), T([0, 1.0, 1]), T([1.0, 0, 1])], torch.ones(3)
    whole, half = (consensus.model_stock(models, base, alpha) for alpha in (1.0, 0.5))
    torch.testing.assert_close(half, (whole + base) / 2)


def test_differences_that_point_apart_or_are_none_give_the_base():
    base = T([1.0, 2.0])
    assert torch.equal(consensus.model_stock([base + 1, base - 1], base, 1.0), base)
    assert torch.equal(consensus.model_stock([base, base + 1], base, 1.0), base)
    assert torch.equal(consensus.model_stock([base, base], base, 1.0), base)


def test_the_geometric_median_on_a_line_is_the_middle_model():
    models = [T([0.0, 0.0]), T([100.0, 50.0]), T([2.0, 1.0])]
    assert consensus.geometric_median(models, [1, 1, 1]) is models[2]


def test_the_geometric_median_of_an_equilateral_triangle_is_its_centre():
    models = [T([math.cos(x), math.sin(x)], dtype=torch.float64) for x in (0, 2 * math.pi / 3, 4 * math.pi / 3)]
    torch.testing.assert_close(consensus.geometric_median(models, [1, 1, 1]), torch.zeros(2, dtype=torch.float64),
                               rtol=0, atol=1e-10)


def test_the_geometric_median_of_a_wide_triangle_is_its_corner():
    # The angle at the origin is 135 degrees; from 120 degrees on Fermat's point is the corner.
    models = [T([1.0, 0.0]), T([0.0, 0.0]), T([-1.0, 1.0])]
    assert consensus.geometric_median(models, [1, 1, 1]) is models[1]


def test_fermats_point_of_a_right_triangle():
    models = [T([0.0, 0.0], dtype=torch.float64), T([1.0, 0.0], dtype=torch.float64), T([0.0, 1.0], dtype=torch.float64)]
    place = (3 - math.sqrt(3)) / 6
    assert consensus.geometric_median(models, [1, 1, 1]).tolist() == pytest.approx([place, place], abs=1e-9)


def test_a_model_with_half_the_weight_is_the_geometric_median():
    models = [torch.randn(5, 4) for _ in range(3)]
    assert consensus.geometric_median(models, [2, 1, 1]) is models[0]


def test_at_the_geometric_median_the_pulls_cancel_out():
    models = [torch.randn(8, 5, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(5)]
    weights = [1.0, 2.0, 0.5, 1.0, 0.0]
    median = consensus.geometric_median(models, weights)
    pull = sum(w * (m - median) / (m - median).norm() for m, w in zip(models, weights, strict=True))
    assert pull.norm() < 1e-9


def test_one_model_far_off_moves_the_median_little():
    models = [torch.randn(40, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(5)]
    near = consensus.geometric_median(models, [1] * 5)
    far = consensus.geometric_median([*models[:4], models[4] * 1e6], [1] * 5)
    assert (far - near).norm() < 2 * near.norm() + 2
