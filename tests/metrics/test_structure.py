"""Edges and contrast on pictures whose edges are known."""

import numpy as np
import pytest

from harness.metrics.contract import ImageSet
from harness.metrics.structure import NO_EDGES, edge_jaggedness, measure_structure


def edge(slope, soft):
    """A picture of 64 x 64 levels that is cut by a line; `soft` spreads the step over one pixel across the line."""
    down, across = np.mgrid[:64, :64]
    distance = (down - 32) - slope * (across - 32)
    step = np.clip(distance / np.hypot(1, slope) + 0.5, 0, 1) if soft else (distance > 0).astype(float)
    return step * 200.0


def test_a_straight_edge_is_not_jagged_at_all():
    assert edge_jaggedness(edge(0, soft=False)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("slope", [0.25, 0.4, 1.0])
def test_a_staircase_is_more_jagged_than_the_same_edge_smoothed(slope):
    assert edge_jaggedness(edge(slope, soft=False)) > 2 * edge_jaggedness(edge(slope, soft=True))


def test_turning_the_picture_changes_nothing():
    luma = edge(0.4, soft=False)
    assert edge_jaggedness(np.rot90(luma)) == pytest.approx(edge_jaggedness(luma), abs=1e-12)


def test_noise_is_far_more_jagged_than_any_line():
    noise = np.random.default_rng(0).uniform(0, 255, (64, 64))
    assert edge_jaggedness(noise) > 0.5


def test_a_picture_without_edges_has_no_jaggedness_instead_of_zero():
    gray = np.full((1, 16, 16, 3), 90, dtype=np.uint8)
    score = measure_structure(ImageSet(images=gray, texts=("gray",)))[0]
    assert score.missing == {"edge_jaggedness": NO_EDGES}
    assert score.values == {"luma_sd": 0.0}


def test_the_spread_of_luma_is_in_levels():
    halves = np.zeros((1, 4, 4, 3), dtype=np.uint8)
    halves[:, :, 2:] = 200
    assert measure_structure(ImageSet(images=halves, texts=("",)))[0].values["luma_sd"] == pytest.approx(100.0)
