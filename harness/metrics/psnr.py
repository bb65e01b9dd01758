"""Peak signal-to-noise ratio to the baseline's image of the same cell: the effect of quantization or a runtime on the pixels.

It has no meaning between different merges or guidance scales.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.metrics.contract import ImageScore, ImageSet

_TWICE_LOG_255: Final = float(np.float32(2) * np.log(np.float32(255)))
_DECIBEL: Final = float(np.float32(10) / np.log(np.float32(10)))
"""Both constants are in float32, as in torchmetrics: values equal those of version 1 to the last digit, are within 5e-6 dB of the
formula in float64, and take a tenth of the time."""

IDENTICAL: Final = "identical to the reference: PSNR has no finite value"


def measure_psnr(image_set: ImageSet) -> list[ImageScore]:
    """10 log10(255^2 / MSE) in dB per image, the mean taken over the h * w * 3 uint8 values of that image alone.

    Values are per image, because pooling the squared errors of several images gives a lower number. An exact match has no
    finite PSNR: it lacks `psnr_db`, is labelled "exact" and has `exact_match` 1.
    """
    if image_set.references is None:
        missing = image_set.no_reference("psnr_db") | image_set.no_reference("exact_match")
        return [ImageScore(missing=missing) for _ in image_set.images]
    return [_score(decibel(*pair)) for pair in zip(image_set.images, image_set.references, strict=True)]


def decibel(image: NDArray[np.uint8], reference: NDArray[np.uint8]) -> float:
    """PSNR in dB of two uint8 arrays of one shape, infinite for equal ones. The squared errors are summed as integers, so neither
    the order nor the batch changes a digit."""
    error = squared_error(image, reference)
    return (_TWICE_LOG_255 - math.log(error / image.size)) * _DECIBEL if error else math.inf


def squared_error(image: NDArray[np.uint8], reference: NDArray[np.uint8]) -> int:
    """The sum of the squared differences of two uint8 arrays, exact; the largest square, 65025, just fits 16 bits."""
    apart = np.maximum(image, reference) - np.minimum(image, reference)
    return int(np.multiply(apart, apart, dtype=np.uint16).sum(dtype=np.uint64))


def _score(decibel: float) -> ImageScore:
    if math.isinf(decibel):
        return ImageScore(values={"exact_match": 1.0}, labels={"psnr": "exact"},
                          missing={"psnr_db": IDENTICAL})
    return ImageScore(values={"psnr_db": decibel, "exact_match": 0.0}, labels={"psnr": "differs"})
