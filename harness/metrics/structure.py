"""Edge jaggedness and contrast of single images. Upscalers, low step counts and few bits damage them while the image still
follows the prompt."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.metrics.contract import ImageScore, ImageSet

LUMA: Final = (0.299, 0.587, 0.114)
EDGE_FROM: Final = 10.0
"""Levels per pixel from which a gradient is an edge, not shading."""
WINDOW: Final = 5
NO_EDGES: Final = f"no pixel has a gradient of {EDGE_FROM:g} levels or more"


def measure_structure(image_set: ImageSet) -> list[ImageScore]:
    """`edge_jaggedness` (0 to 1) and `luma_sd` (8-bit levels) of each image."""
    scores = []
    for image in image_set.images:
        luma = np.asarray(image.astype(np.float64) @ np.array(LUMA), dtype=np.float64)
        jagged, spread = edge_jaggedness(luma), float(luma.std())
        scores.append(ImageScore(values={"luma_sd": spread}, missing={"edge_jaggedness": NO_EDGES}) if jagged is None else
                     ImageScore(values={"edge_jaggedness": jagged, "luma_sd": spread}))
    return scores


def edge_jaggedness(luma: NDArray[np.float64]) -> float | None:
    """1 - mean coherence of the edges of a picture (h, w) in 8-bit levels; None if it has no edge.

    The structure tensor is the mean of the outer products of the gradient (Sobel, levels per pixel) over windows of 5 x 5
    pixels. With eigenvalues p >= q its coherence is (p - q) / (p + q): 1 if all gradients in a window have the same direction,
    as along a clean edge; 0 if they have all directions, as at ragged edges and in noise. It is averaged over the pixels whose
    gradient is at least EDGE_FROM. Corners and fine texture count too, so only pictures of one prompt and seed are comparable.
    Bigun and Granlund, ICCV 1987; Weickert, International Journal of Computer Vision 31 (1999) 111, for the coherence.
    """
    from scipy.ndimage import sobel, uniform_filter

    across, down = sobel(luma, axis=1, mode="nearest") / 8, sobel(luma, axis=0, mode="nearest") / 8
    edges = np.hypot(across, down) >= EDGE_FROM
    if not edges.any():
        return None
    xx, yy, xy = (uniform_filter(product, WINDOW, mode="nearest") for product in (across**2, down**2, across * down))
    # (p - q)^2 = (xx - yy)^2 + 4 xy^2 and p + q = xx + yy of a symmetric 2 x 2 matrix.
    coherence = np.hypot(xx - yy, 2 * xy)[edges] / (xx + yy)[edges]
    return float(np.clip(1.0 - coherence.mean(), 0.0, 1.0))
