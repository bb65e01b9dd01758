"""Structural similarity to the baseline's image at five scales, which weighs coarse structure as people see it from a distance.

Like SSIM, it has no meaning between different merges or guidance scales.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from harness.metrics.contract import ImageScore, ImageSet

SMALLEST: Final = 176
"""After four halvings the window of 11 pixels must still fit."""


def measure_ms_ssim(image_set: ImageSet) -> list[ImageScore]:
    """MS-SSIM per image, 1 for equal ones, of the uint8 RGB channels with the windows of SSIM and the weights of Wang, Simoncelli
    and Bovik (2003) for five scales, by torchmetrics; negative terms count as 0. Missing for images below 176 pixels, with a
    reason."""
    if image_set.references is None:
        return [ImageScore(missing=image_set.no_reference("ms_ssim")) for _ in image_set.images]
    if (side := min(image_set.images.shape[1:3])) < SMALLEST:
        reason = f"images of {side} pixels are below {SMALLEST}, which five scales need; use ssim"
        return [ImageScore(missing={"ms_ssim": reason}) for _ in image_set.images]
    import torch
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as ms_ssim

    scores = []
    for pair in zip(image_set.images, image_set.references, strict=True):
        # One by one and in float64, so the other images of a batch never change a digit.
        image, reference = (torch.from_numpy(np.ascontiguousarray(a)).permute(2, 0, 1)[None].double() for a in pair)
        value = float(ms_ssim(image, reference, data_range=255.0, normalize="relu"))
        scores.append(ImageScore(values={"ms_ssim": min(value, 1.0)}))
    return scores
