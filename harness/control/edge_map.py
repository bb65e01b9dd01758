"""The edges of a picture: Canny's detector with thresholds in levels per pixel, for control maps and for metrics alike."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

EDGES_VERSION: Final = 1
"""Raise it when a picture has other edges."""
LUMA: Final = (0.299, 0.587, 0.114)
LOW: Final = 10.0
HIGH: Final = 25.0
SIGMA: Final = 1.0
_DIGITS: Final = 9
"""Decimals of a gradient that count: neighbours that are equal but for the last bits of the arithmetic are equal."""
_EIGHT: Final = np.ones((3, 3), dtype=bool)
"""Neighbours along edges are those of all eight directions."""


def edges_of(picture: NDArray[np.uint8], *, low: float = LOW, high: float = HIGH, sigma: float = SIGMA) -> NDArray[np.bool_]:
    """Where a uint8 RGB picture (h, w, 3) has edges: a mask (h, w).

    Luma 0.299 R + 0.587 G + 0.114 B; a Gaussian of `sigma` pixels; Sobel / 8, so that a gradient is in levels per pixel. A pixel
    is on a ridge if its gradient is the largest of the three along its direction, between pixels by linear interpolation.
    Ridges of at least `low` are edges if they hold a pixel of at least `high`. Canny, IEEE PAMI 8 (1986) 679.
    """
    from scipy.ndimage import gaussian_filter, label, sobel

    luma = picture.astype(np.float64) @ np.array(LUMA)
    smooth = gaussian_filter(luma, sigma, mode="nearest") if sigma > 0 else luma
    across, down = sobel(smooth, axis=1, mode="nearest") / 8, sobel(smooth, axis=0, mode="nearest") / 8
    size = np.round(np.hypot(across, down), _DIGITS)
    weak = _ridge(size, across, down) & (size >= low)
    lines, count = label(weak, structure=_EIGHT)
    strong = np.zeros(count + 1, dtype=bool)
    strong[lines[weak & (size >= high)]] = True
    strong[0] = False
    return np.asarray(strong[lines], dtype=np.bool_)


def drawn_edges(picture: NDArray[np.uint8], *, low: float = LOW, high: float = HIGH, sigma: float = SIGMA) -> NDArray[np.uint8]:
    """The edges of a picture as a control map (h, w, 3): white lines on black."""
    white = edges_of(picture, low=low, high=high, sigma=sigma).astype(np.uint8) * np.uint8(255)
    return np.repeat(white[..., None], 3, axis=2)


def lines_of(control_map: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a control map (h, w, 3) has lines: its bright half."""
    return np.asarray(control_map.astype(np.float64) @ np.array(LUMA) >= 127.5, dtype=np.bool_)


def reach(height: int, width: int) -> int:
    """By how many pixels an edge may be beside a wanted one and still follow it: 0.4 % of the short side, at least 1."""
    return max(1, round(0.004 * min(height, width)))


def edge_f1(drawn: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float | None:
    """The F1 of two masks of edges (h, w), 0 to 1; None if neither has an edge.

    Precision is the share of drawn edges that lie within `reach` pixels of wanted ones, in both directions (Chebyshev); recall
    the reverse.
    """
    from scipy.ndimage import maximum_filter

    if not drawn.any() and not wanted.any():
        return None
    if not drawn.any() or not wanted.any():
        return 0.0
    around = 2 * reach(*drawn.shape) + 1
    near_wanted, near_drawn = (maximum_filter(mask.astype(np.uint8), around, mode="constant") > 0 for mask in (wanted, drawn))
    precision, recall = float(near_wanted[drawn].mean()), float(near_drawn[wanted].mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _ridge(size: NDArray[np.float64], across: NDArray[np.float64], down: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where the gradient's `size` is the largest of three points along its direction; of two equal ones the left or upper."""
    padded = np.pad(size, 1)
    rows, columns = (place + 1 for place in np.indices(size.shape))
    flat = np.abs(across) >= np.abs(down)
    right, below = np.sign(across).astype(int), np.sign(down).astype(int)
    longer = np.maximum(np.abs(across), np.abs(down))
    share = np.divide(np.minimum(np.abs(across), np.abs(down)), longer, out=np.zeros_like(size), where=longer > 0)

    def along(sign: int) -> NDArray[np.float64]:
        straight = padded[rows + sign * np.where(flat, 0, below), columns + sign * np.where(flat, right, 0)]
        diagonal = padded[rows + sign * below, columns + sign * right]
        return np.asarray(np.round((1 - share) * straight + share * diagonal, _DIGITS))

    forward = np.where(flat, right, below) >= 0
    before, after = np.where(forward, along(-1), along(1)), np.where(forward, along(1), along(-1))
    return np.asarray((size > before) & (size >= after) & (size > 0), dtype=np.bool_)
