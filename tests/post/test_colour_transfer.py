"""Colour transfer in CIE Lab."""

import numpy as np
import pytest

from harness.metrics.lab import lab_from_srgb, srgb_from_lab
from harness.post.colour_transfer import METHODS, transferred
from tests.post.pictures import noise


def test_lab_and_back_changes_no_level() -> None:
    every = np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3), axis=-1).reshape(-1, 1, 3).astype(np.uint8)
    assert np.abs(srgb_from_lab(lab_from_srgb(every)) - every).max() < 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_its_own_colours_leave_a_picture_as_it_is(method: str) -> None:
    image = noise(1)
    assert (transferred(image, image, method, 1.0) == image).all()


@pytest.mark.parametrize("method", METHODS)
def test_strength_0_leaves_a_picture_as_it_is(method: str) -> None:
    assert (transferred(noise(1), noise(2, low=100, high=140), method, 0.0) == noise(1)).all()


def test_reinhard_gives_the_mean_and_the_spread_of_the_reference() -> None:
    image, reference = noise(1, low=90, high=130), noise(2, low=100, high=160)
    lab, wanted = lab_from_srgb(transferred(image, reference, "reinhard", 1.0)), lab_from_srgb(reference)
    assert np.abs(lab.mean((0, 1)) - wanted.mean((0, 1))).max() < 0.1
    assert np.abs(lab.std((0, 1)) / wanted.std((0, 1)) - 1).max() < 0.02


def test_a_channel_without_spread_gets_the_mean_alone() -> None:
    gray = np.full((8, 8, 3), 100, np.uint8)
    result = transferred(gray, noise(2), "reinhard", 1.0)
    assert (result == result[0, 0]).all()
    assert np.abs(lab_from_srgb(result)[0, 0] - lab_from_srgb(noise(2)).mean((0, 1))).max() < 0.4


def test_a_nearly_uniform_channel_is_stretched_by_no_more_than_three() -> None:
    image, reference = noise(1, low=126, high=129), noise(2, low=0, high=256)
    before, after = lab_from_srgb(image), lab_from_srgb(transferred(image, reference, "reinhard", 1.0))
    assert after[..., 0].std() < 3.2 * before[..., 0].std()


def test_histogram_matching_is_the_rank_of_each_value_in_the_reference() -> None:
    lab = np.zeros((1, 4, 3))
    lab[0, :, 0] = [1, 2, 3, 4]
    reference = np.zeros((1, 8, 3))
    reference[0, :, 0] = [10, 10, 20, 20, 30, 30, 40, 40]
    assert METHODS["histogram"](lab, reference)[0, :, 0].tolist() == [10, 20, 30, 40]
