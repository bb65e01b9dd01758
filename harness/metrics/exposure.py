"""Over- and under-exposed pixels and colour saturation: counter-metrics to alignment scores, which rise while images burn out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.metrics.contract import ImageScore, ImageSet

BURNT_FROM = 254
DROWNED_TO = 1


def measure_exposure(image_set: ImageSet) -> list[ImageScore]:
    """Shares (0..1) of the pixels of each image, and its mean saturation."""
    return [ImageScore(values=exposure(image)) for image in image_set.images]


def exposure(image: NDArray[np.uint8]) -> dict[str, float]:
    """Shares of one uint8 image (h, w, 3), each of its h * w pixels.

    over: any channel >= 254; under: any channel <= 1; clipped: either, counted once; saturation: mean of
    (max - min) / max over the channels, the S of HSV, with 0 for black.
    """
    red, green, blue = (image[..., channel] for channel in range(3))
    high = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    over, under = high >= BURNT_FROM, low <= DROWNED_TO
    top = high.astype(np.float32)
    saturation = (top - low) / np.maximum(top, 1.0)
    return {
        "overexposed_share": float(over.mean()),
        "underexposed_share": float(under.mean()),
        "clipped_share": float((over | under).mean()),
        "saturation": float(saturation.mean(dtype=np.float64)),
    }
