"""Structural similarity to the baseline's image of the same cell: shows whether a change of number format or runtime is visible,
whereas PSNR weighs every level equally.

Like PSNR, it has no meaning between different merges or guidance scales.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from harness.metrics.contract import ImageScore, ImageSet

_WINDOW: Final = 11


def measure_ssim(image_set: ImageSet) -> list[ImageScore]:
    """Mean SSIM per image, 1 for equal ones, of the uint8 RGB channels with Gaussian windows of 11 x 11 (sigma 1.5), K1 0.01,
    K2 0.03 and range 255 (Wang et al. 2004), by torchmetrics. For images smaller than a window it is missing, with a reason."""
    if image_set.references is None:
        return [ImageScore(missing=image_set.no_reference("ssim")) for _ in image_set.images]
    if min(image_set.images.shape[1:3]) < _WINDOW:
        return [ImageScore(missing={"ssim": f"images below {_WINDOW} pixels hold no window"}) for _ in image_set.images]
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    scores = []
    for pair in zip(image_set.images, image_set.references, strict=True):
        # One by one and in float64, so the other images of a batch never change a digit.
        image, reference = (torch.from_numpy(np.ascontiguousarray(a)).permute(2, 0, 1)[None].double() for a in pair)
        value = float(structural_similarity_index_measure(image, reference, data_range=255.0))
        scores.append(ImageScore(values={"ssim": min(value, 1.0)}))
    return scores

