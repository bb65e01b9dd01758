"""Gives a picture the colours of another, in CIE Lab."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.metrics.lab import lab_from_srgb, srgb_from_lab
from harness.post.rounding import mixed

COLOUR_TRANSFER_VERSION = 1
MOST_STRETCH = 3.0
"""A nearly uniform channel is stretched by no more than this, or its noise would become its colours."""

Picture = NDArray[np.uint8]
Lab = NDArray[np.float64]


def transferred(image: Picture, reference: Picture, method: str, strength: float) -> Picture:
    """uint8 sRGB (h, w, 3) with the colours of `reference` (any size). `strength` mixes in Lab, before the one rounding."""
    lab = lab_from_srgb(image)
    matched = METHODS[method](lab, lab_from_srgb(reference))
    return mixed(image, srgb_from_lab(lab + strength * (matched - lab)), 1.0)


def reinhard(lab: Lab, reference: Lab) -> Lab:
    """(x - mean) * min(sd of the reference / sd, 3) + mean of the reference, channel by channel; a channel without any spread
    only gets the mean. Reinhard et al., IEEE Computer Graphics and Applications 21 (2001) 34, in CIE Lab."""
    mean, spread = lab.mean((0, 1)), lab.std((0, 1))
    wanted_mean, wanted_spread = reference.mean((0, 1)), reference.std((0, 1))
    stretch = np.divide(wanted_spread, spread, out=np.ones(3), where=spread > 0)
    return np.asarray((lab - mean) * np.minimum(stretch, MOST_STRETCH) + wanted_mean)


def histogram(lab: Lab, reference: Lab) -> Lab:
    """F_r^-1(F_s(x)), channel by channel, F the share of the pixels up to a value, by linear interpolation between the values
    that occur. Gonzalez and Woods, Digital Image Processing, 3.3.2."""
    return np.stack([_matched(lab[..., n], reference[..., n]) for n in range(3)], axis=-1)


def _matched(channel: Lab, reference: Lab) -> Lab:
    _, places, counts = np.unique(channel.ravel(), return_inverse=True, return_counts=True)
    wanted, wanted_counts = np.unique(reference.ravel(), return_counts=True)
    shares, wanted_shares = np.cumsum(counts) / channel.size, np.cumsum(wanted_counts) / reference.size
    return np.asarray(np.interp(shares, wanted_shares, wanted)[places].reshape(channel.shape))


METHODS = {"reinhard": reinhard, "histogram": histogram}
