"""Peak signal-to-noise ratio to the baseline's image of the same cell: what quantization or a runtime did to the
pixels.

METRICS lists it; it means nothing between different merges or guidance scales.
"""

from __future__ import annotations

import math

from harness.metrics.contract import ImageScore, ImageSet

_CHUNK = 64


def measure_psnr(image_set: ImageSet) -> list[ImageScore]:
    """10 log10(255^2 / MSE) in dB per image, the mean taken over the h * w * 3 uint8 values of that image alone.

    Values come per image because pooling the squared errors of several images is another, lower figure. An exact
    match has no finite PSNR: it lacks `psnr_db`, is labelled "exact" and has `exact_match` 1.
    """
    if image_set.references is None:
        missing = image_set.no_reference("psnr_db") | image_set.no_reference("exact_match")
        return [ImageScore(missing=missing) for _ in image_set.images]
    return [_score(decibel) for decibel in _decibels(image_set)]


def _decibels(image_set: ImageSet) -> list[float]:
    import torch
    from torchmetrics.image import PeakSignalNoiseRatio

    assert image_set.references is not None
    result: list[float] = []
    for start in range(0, len(image_set.images), _CHUNK):
        part = slice(start, start + _CHUNK)
        psnr = PeakSignalNoiseRatio(data_range=255.0, dim=(1, 2, 3), reduction="none")
        # Squared 8-bit differences sum exactly in float64, so the figure cannot depend on the size of the chunk.
        psnr.update(torch.from_numpy(image_set.images[part]).double(),
                    torch.from_numpy(image_set.references[part]).double())
        result += psnr.compute().reshape(-1).tolist()  # a single image gives a scalar
    return result


def _score(decibel: float) -> ImageScore:
    if math.isinf(decibel):
        return ImageScore(values={"exact_match": 1.0}, labels={"psnr": "exact"},
                          missing={"psnr_db": "identical to the reference: PSNR has no finite value"})
    return ImageScore(values={"psnr_db": decibel, "exact_match": 0.0}, labels={"psnr": "differs"})
