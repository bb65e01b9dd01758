"""Exposure shares on pictures whose pixels are counted by hand."""

import numpy as np
import pytest

from harness.metrics.exposure import exposure


def picture(*pixels):
    return np.array([pixels], dtype=np.uint8)


def test_any_channel_at_the_edge_counts_its_pixel_once():
    shares = exposure(picture((254, 9, 9), (9, 1, 9), (255, 0, 9), (253, 2, 9)))
    assert shares["overexposed_share"] == 0.5
    assert shares["underexposed_share"] == 0.5
    assert shares["clipped_share"] == 0.75


def test_saturation_is_that_of_hsv():
    assert exposure(picture((200, 100, 100), (50, 50, 50)))["saturation"] == pytest.approx(0.25)


def test_black_has_no_saturation():
    assert exposure(picture((0, 0, 0)))["saturation"] == 0.0


def test_shares_do_not_depend_on_the_size_of_the_picture():
    small = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert exposure(small.repeat(4, axis=0).repeat(4, axis=1)) == pytest.approx(exposure(small), abs=1e-7)
