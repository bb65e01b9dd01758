"""The cap on colour temperature."""

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.metrics.lab import linear_from_srgb, xyz_from_linear
from harness.post.temperature import daylight, mccamy, warmed

COOL = np.full((4, 4, 3), (120, 130, 170), np.uint8)


def kelvin(image: NDArray[np.uint8]) -> float:
    x, y, z = xyz_from_linear(linear_from_srgb(image).mean((0, 1)))
    return mccamy(x / (x + y + z), y / (x + y + z))


@pytest.mark.parametrize(("name", "x", "y", "expected"), [("D65", 0.31271, 0.32902, 6504), ("A", 0.44757, 0.40745, 2856),
                                                          ("D50", 0.34567, 0.35850, 5003)])
def test_the_temperature_of_a_standard_illuminant(name: str, x: float, y: float, expected: float) -> None:
    assert mccamy(x, y) == pytest.approx(expected, abs=10), name


def test_the_daylight_locus_passes_through_its_illuminants() -> None:
    assert daylight(6504) == pytest.approx((0.31271, 0.32902), abs=2e-4)
    assert daylight(5003) == pytest.approx((0.34567, 0.35850), abs=2e-4)


def test_a_cool_picture_gets_the_temperature_of_the_cap() -> None:
    image, note = warmed(COOL, 6500)
    assert kelvin(COOL) > 9000
    assert kelvin(image) == pytest.approx(6500, rel=0.02)
    assert not note


@pytest.mark.parametrize("colour", [(128, 128, 128), (255, 255, 255), (0, 0, 0), (200, 150, 100)])
def test_what_is_not_cooler_than_the_cap_stays_as_it_is(colour: tuple[int, int, int]) -> None:
    image = np.full((4, 4, 3), colour, np.uint8)
    result, note = warmed(image, 6500)
    assert (result == image).all()
    assert not note


def test_a_coloured_picture_is_left_and_said() -> None:
    blue = np.full((4, 4, 3), (0, 60, 255), np.uint8)
    violet = np.full((4, 4, 3), (90, 0, 255), np.uint8)
    for image in (blue, violet):
        result, note = warmed(image, 6500)
        assert (result == image).all()
        assert "colour" in note
