"""A colour histogram of an image: every pixel falls into one of 32 x 32 x 32 bins, and a bin is represented by the mean of its
pixels. The palette of a large image is computed from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.metrics.lab import Floats, lab_from_means

BINS: Final = 32 * 32 * 32
_KEPT: Final = 0xF8
"""The upper five bits of a code: a bin is eight codes wide, from its middle to a corner 3 dE76 (median), 7 at most."""


@dataclass(frozen=True, kw_only=True)
class ColourCounts:
    """`bins` (h, w) uint16: each pixel's bin. Of the m bins that occur, in rising order: `used` (m), `counts` (m) in
    pixels, `lab` (m, 3) of the mean colour."""

    bins: NDArray[np.uint16]
    used: NDArray[np.int64]
    counts: Floats
    lab: Floats


def count_colours(image: NDArray[np.uint8]) -> ColourCounts:
    """The counted colours of a uint8 sRGB image (h, w, 3). A bin of one colour keeps that colour exactly, so that flat
    pictures lose nothing; no pixel is left out and none is averaged with a neighbour of another colour."""
    channels = [np.ascontiguousarray(image[..., channel]).ravel() for channel in range(3)]
    red, green, blue = ((channel & _KEPT).astype(np.uint16) for channel in channels)
    bins: NDArray[np.uint16] = np.asarray(red << 7 | green << 2 | blue >> 3, dtype=np.uint16)
    place = bins.astype(np.int64)
    counts = np.bincount(place, minlength=BINS)
    used = np.flatnonzero(counts)
    occurring = counts[used].astype(np.float64)
    means = np.stack([np.bincount(place, weights=channel, minlength=BINS)[used] for channel in channels], axis=-1)
    return ColourCounts(bins=bins.reshape(image.shape[:2]), used=used, counts=occurring,
                        lab=lab_from_means(means / occurring[:, None]))
