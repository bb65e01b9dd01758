"""Warms pictures whose correlated colour temperature is too high."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.metrics.lab import linear_from_srgb, srgb_from_linear, xyz_from_linear
from harness.post.rounding import mixed

TEMPERATURE_VERSION: Final = 1
TOLERANCE_KELVIN: Final = 10.0
"""McCamy's formula gives 6505 K for the white of sRGB, which is 6504 K: a cap of 6500 K must leave a neutral gray as it is."""
FURTHEST_DUV: Final = 0.05
"""A picture farther from the daylight locus, in CIE 1960 uv, is coloured and not cool."""
LOCUS: Final = (4000.0, 25000.0)
"""Where CIE 15 defines the daylight locus, in kelvin."""
_WHITE: Final = (0.3127, 0.3290)
_BRADFORD: Final = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

Floats = NDArray[np.float64]


def warmed(image: NDArray[np.uint8], max_kelvin: float) -> tuple[NDArray[np.uint8], str]:
    """uint8 sRGB (h, w, 3) at a correlated colour temperature of at most `max_kelvin`, and why a picture that seems cooler was
    left; empty if nothing was wrong.

    The temperature is that of the mean linear colour, by McCamy (Color Research and Application 17 (1992) 142). Above the cap the
    picture is adapted by Bradford's transform from the daylight locus at its temperature to the locus at the cap.
    """
    linear = linear_from_srgb(image)
    mean = xyz_from_linear(linear.mean((0, 1)))
    if mean.sum() == 0:
        return image, ""
    x, y = mean[:2] / mean.sum()
    kelvin = mccamy(x, y)
    if x < _WHITE[0] and y < _WHITE[1] and kelvin < LOCUS[0]:
        kelvin = LOCUS[1]  # a blue so deep that the formula turns around
    if not kelvin > max_kelvin + TOLERANCE_KELVIN:
        return image, ""
    start, end = daylight(min(max(kelvin, LOCUS[0]), LOCUS[1])), daylight(max_kelvin)
    duv = float(np.hypot(*(_uv(x, y) - _uv(*start))))
    if duv > FURTHEST_DUV:
        return image, (f"left as it is: its mean colour is {duv:.3f} from the daylight locus (uv of CIE 1960), which is a "
                       "colour and not a temperature")
    adapted = xyz_from_linear(linear) @ _adaptation(_xyz(*start), _xyz(*end)).T
    return mixed(image, srgb_from_linear(adapted @ np.linalg.inv(xyz_from_linear(np.eye(3)))), 1.0), ""


def mccamy(x: float, y: float) -> float:
    """The correlated colour temperature of a chromaticity, in kelvin: 449 n^3 + 3525 n^2 + 6823.3 n + 5520.33."""
    n = (x - 0.3320) / (0.1858 - y)
    return 449 * n ** 3 + 3525 * n ** 2 + 6823.3 * n + 5520.33


def daylight(kelvin: float) -> tuple[float, float]:
    """Chromaticity (x, y) of the daylight locus, from 4000 to 25000 K. CIE 15:2004, 3.1."""
    a, b, c, d = (-4.6070e9, 2.9678e6, 0.09911e3, 0.244063) if kelvin <= 7000 else (-2.0064e9, 1.9018e6, 0.24748e3, 0.237040)
    x = a / kelvin ** 3 + b / kelvin ** 2 + c / kelvin + d
    return x, -3.000 * x * x + 2.870 * x - 0.275


def _uv(x: float, y: float) -> Floats:
    """CIE 1960 (u, v) of a chromaticity."""
    return np.array([4 * x, 6 * y]) / (-2 * x + 12 * y + 3)


def _xyz(x: float, y: float) -> Floats:
    """The tristimulus values of a white of this chromaticity, with Y = 1."""
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _adaptation(white: Floats, wanted: Floats) -> Floats:
    """Bradford's matrix for XYZ under one white to XYZ under another. Lam, Metamerism and Colour Constancy (1985)."""
    gains = (_BRADFORD @ wanted) / (_BRADFORD @ white)
    return np.asarray(np.linalg.inv(_BRADFORD) @ np.diag(gains) @ _BRADFORD)
