"""Structural similarity to the baseline's image of the same cell: shows whether a change of number format or runtime is visible,
whereas PSNR weighs every level equally.

Like PSNR, it has no meaning between different merges or guidance scales.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np

from harness.metrics.contract import ImageScore, ImageSet

_WINDOW: Final = 11
_SIGMA: Final = 1.5
_C1: Final = (0.01 * 255) ** 2
_C2: Final = (0.03 * 255) ** 2

_Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"


def measure_ssim(image_set: ImageSet) -> list[ImageScore]:
    """Mean SSIM per image, 1 for equal ones, of the uint8 RGB channels with Gaussian windows of 11 x 11 (sigma 1.5), K1 0.01,
    K2 0.03 and range 255 (Wang et al. 2004), around every pixel. Missing for images smaller than a window, with a reason."""
    if image_set.references is None:
        return [ImageScore(missing=image_set.no_reference("ssim")) for _ in image_set.images]
    if min(image_set.images.shape[1:3]) < _WINDOW:
        return [ImageScore(missing={"ssim": f"images below {_WINDOW} pixels hold no window"}) for _ in image_set.images]
    # One by one and in float64, so the other images of a batch never change a digit.
    return [ImageScore(values={"ssim": min(_ssim(*pair), 1.0)})
            for pair in zip(image_set.images, image_set.references, strict=True)]


def _ssim(image: _Array, reference: _Array) -> float:
    """Of two uint8 images (h, w, 3), each channel for itself."""
    x, y = image.astype(np.float64), reference.astype(np.float64)
    mx, my = _window_means(x), _window_means(y)
    vx, vy = (np.maximum(_window_means(a * a) - m * m, 0) for a, m in ((x, mx), (y, my)))
    both = _window_means(x * y) - mx * my
    ratio = (2 * mx * my + _C1) * (2 * both + _C2) / ((mx * mx + my * my + _C1) * (vx + vy + _C2))
    return float(ratio.mean())


def _window_means(values: _Array) -> _Array:
    """The Gaussian mean around each pixel, the image mirrored at its edges: by rows and then by columns, which is a fifth of the
    work of all weights of a window."""
    from scipy.ndimage import gaussian_filter1d

    means = values
    for axis in (0, 1):
        means = gaussian_filter1d(means, _SIGMA, axis=axis, radius=_WINDOW // 2, mode="mirror")
    return means
