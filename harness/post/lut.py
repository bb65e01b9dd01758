"""Applies a colour look-up table to pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.post.cube import Cube
from harness.post.rounding import mixed

LUT_VERSION = 1


def through_lut(image: NDArray[np.uint8], cube: Cube, strength: float) -> NDArray[np.uint8]:
    """uint8 sRGB (h, w, 3) through a table: linear interpolation between its entries, in float64, of values / 255; inputs outside
    the table's domain count as its ends. `strength` mixes the result with the picture, before the one rounding.

    The table is taken to be for display sRGB, as most .cube files are.
    """
    from scipy.interpolate import RegularGridInterpolator

    # Each colour once: a picture has far fewer colours than pixels.
    colours, places = np.unique(image.reshape(-1, 3), axis=0, return_inverse=True)
    inside = np.clip(colours / 255, cube.low, cube.high)
    axes = [np.linspace(low, high, len(cube.values)) for low, high in zip(cube.low, cube.high, strict=True)]
    if cube.values.ndim == 2:
        looked_up = np.stack([np.interp(inside[:, n], axes[n], cube.values[:, n]) for n in range(3)], axis=-1)
    else:
        looked_up = RegularGridInterpolator(axes, cube.values)(np.minimum(inside, [axis[-1] for axis in axes]))
    return mixed(colours, 255 * looked_up, strength)[places.reshape(-1)].reshape(image.shape)
