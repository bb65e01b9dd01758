"""CIE colour arithmetic: sRGB to L*a*b* (D65) and the CIEDE2000 difference, on numpy arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_WHITE_D65 = np.array([0.95047, 1.0, 1.08883])
_XYZ_FROM_RGB = np.array([[0.4124564, 0.3575761, 0.1804375],
                          [0.2126729, 0.7151522, 0.0721750],
                          [0.0193339, 0.1191920, 0.9503041]])
_CODES = np.arange(256) / 255.0
_LINEAR = np.where(_CODES <= 0.04045, _CODES / 12.92, ((_CODES + 0.055) / 1.055) ** 2.4)
_POW7 = 25.0**7


def linear_from_srgb(rgb: NDArray[np.uint8]) -> Floats:
    """Linear light in 0..1 of uint8 sRGB, shape (..., 3) to (..., 3). IEC 61966-2-1."""
    return np.asarray(_LINEAR[rgb])


def srgb_from_linear(linear: Floats) -> Floats:
    """sRGB in levels from 0 to 255, not rounded, of linear light in 0..1, shape (..., 3) to (..., 3); what is outside of 0..1 is
    clipped to it. IEC 61966-2-1."""
    inside = np.clip(linear, 0.0, 1.0)
    return np.asarray(255 * np.where(inside <= 0.0031308, 12.92 * inside, 1.055 * inside ** (1 / 2.4) - 0.055))


def xyz_from_linear(linear: Floats) -> Floats:
    """CIE XYZ (2 degrees, Y of white 1) of linear sRGB, shape (..., 3) to (..., 3)."""
    return np.asarray(linear @ _XYZ_FROM_RGB.T)


def srgb_from_lab(lab: Floats) -> Floats:
    """sRGB in levels from 0 to 255, not rounded, of CIE L*a*b* (D65), shape (..., 3) to (..., 3); colours outside of sRGB are
    clipped to it channel by channel. The inverse of lab_from_srgb, to 1e-9 levels."""
    y = (lab[..., 0] + 16) / 116
    cubic = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    scaled = np.where(cubic > 6 / 29, cubic ** 3, 3 * (6 / 29) ** 2 * (cubic - 4 / 29))
    return srgb_from_linear(scaled @ np.linalg.inv(_XYZ_FROM_RGB / _WHITE_D65[:, None]).T)


def lab_from_srgb(rgb: NDArray[np.uint8]) -> Floats:
    """CIE L*a*b* (2 degrees, D65) of uint8 sRGB, shape (..., 3) to (..., 3), L in 0..100. IEC 61966-2-1, CIE 15."""
    return _lab_from_linear(_LINEAR[rgb])


def lab_from_means(rgb: Floats) -> Floats:
    """CIE L*a*b* of means of 8-bit sRGB, float64 of 0..255 and shape (..., 3); whole numbers give lab_from_srgb's bits.

    Between two codes the transfer curve is taken as straight, which is wrong by less than 0.005 in L*, a* or b*.
    """
    return _lab_from_linear(np.interp(rgb, np.arange(256.0), _LINEAR))


def _lab_from_linear(linear: Floats) -> Floats:
    scaled = linear @ (_XYZ_FROM_RGB / _WHITE_D65[:, None]).T
    cubic = np.where(scaled > (6 / 29) ** 3, np.cbrt(scaled), scaled * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = cubic[..., 0], cubic[..., 1], cubic[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def chroma(lab: Floats) -> Floats:
    """C*ab = sqrt(a*^2 + b*^2), shape (..., 3) to (...); 0 is neutral."""
    return np.asarray(np.hypot(lab[..., 1], lab[..., 2]), dtype=np.float64)


def ciede2000(first: Floats, second: Floats) -> Floats:
    """CIEDE2000 colour difference (k_L = k_C = k_H = 1) of L*a*b* arrays that broadcast, shape (..., 3) to (...).

    Sharma, Wu and Dalal, "The CIEDE2000 Color-Difference Formula" (2005), with its rules for hue wrap-around.
    """
    light1, chroma1, hue1, light2, chroma2, hue2 = _adjusted(first, second)
    both_coloured = chroma1 * chroma2 > 0
    turn = hue2 - hue1
    turn = np.where(turn > 180, turn - 360, np.where(turn < -180, turn + 360, turn)) * both_coloured
    d_light, d_chroma = light2 - light1, chroma2 - chroma1
    d_hue = 2 * np.sqrt(chroma1 * chroma2) * np.sin(np.radians(turn) / 2)
    light, mean_chroma = (light1 + light2) / 2, (chroma1 + chroma2) / 2
    total = hue1 + hue2
    wrapped = np.where(total < 360, total + 360, total - 360)
    hue = np.where(both_coloured, np.where(np.abs(hue1 - hue2) > 180, wrapped, total) / 2, total)
    weight = (1 - 0.17 * _cos(hue - 30) + 0.24 * _cos(2 * hue)
              + 0.32 * _cos(3 * hue + 6) - 0.20 * _cos(4 * hue - 63))
    s_light = 1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2)
    s_chroma, s_hue = 1 + 0.045 * mean_chroma, 1 + 0.015 * mean_chroma * weight
    rotation = (-2 * np.sqrt(mean_chroma**7 / (mean_chroma**7 + _POW7))
                * np.sin(np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2)))))
    in_chroma, in_hue = d_chroma / s_chroma, d_hue / s_hue
    squared = (d_light / s_light) ** 2 + in_chroma**2 + in_hue**2 + rotation * in_chroma * in_hue
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)), dtype=np.float64)


def _adjusted(first: Floats, second: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
    """L, C' and h' (degrees, 0..360) of both colours, with the a* axis stretched for near-neutral pairs."""
    mean = (chroma(first) + chroma(second)) / 2
    stretch = 1 + 0.5 * (1 - np.sqrt(mean**7 / (mean**7 + _POW7)))
    polar: list[Floats] = []
    for lab in (first, second):
        a, b = lab[..., 1] * stretch, lab[..., 2] + 0.0 * stretch
        polar += [lab[..., 0] + 0.0 * stretch, np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360]
    return polar[0], polar[1], polar[2], polar[3], polar[4], polar[5]


def _cos(degrees: Floats) -> Floats:
    return np.asarray(np.cos(np.radians(degrees)), dtype=np.float64)
