"""Dominant colours by k-means in CIE Lab: the palette's drift from the baseline, its chroma and the subject's colour
by name.

METRICS lists it; the page draws the clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from harness.metrics.colour_names import subject_colour
from harness.metrics.contract import ImageScore, ImageSet
from harness.metrics.lab import Floats, chroma, ciede2000, lab_from_srgb

if TYPE_CHECKING:
    from collections.abc import Iterable

CLUSTERS: Final = 5
LONGEST_SIDE: Final = 48
LIGHTNESS_SCALE: Final = 0.45
"""L* counts less than a* and b*, so that shading splits a coloured thing into fewer clusters."""
SHARE_UNITS: Final = 100


@dataclass(frozen=True, kw_only=True)
class Palette:
    """Clusters by falling share: mean L*a*b* (k, 3), share of the pixels (k), and each small-image pixel's cluster."""

    centres: Floats
    shares: Floats
    members: NDArray[np.int64]
    mean_chroma: float


def measure_palette(image_set: ImageSet) -> list[ImageScore]:
    """Palette drift (dE00), mean chroma and the subject's colour name of each image."""
    from sklearn import config_context
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no stubs

    # One thread: cluster sums then add up in one order, and tiny images lose more to thread start than they gain.
    # The inputs are finite by construction; checking them again took a fifth of the time.
    with threadpool_limits(limits=1), config_context(assume_finite=True, skip_parameter_validation=True):
        palettes = [palette(image) for image in image_set.images]
        references = None if image_set.references is None else _palettes(image_set.references)
    return [_score(image_set, number, own, references) for number, own in enumerate(palettes)]


def palette(image: NDArray[np.uint8]) -> Palette:
    """k-means clusters (k = 5 or the number of distinct colours) of a uint8 sRGB image (h, w, 3).

    The image is box-averaged to at most 48 x 48 pixels and clustered on (0.45 L*, a*, b*) from a farthest-first
    start, which takes no random numbers. Centres are given in plain L*a*b*.
    """
    from sklearn.cluster import k_means

    lab = lab_from_srgb(_small(image))
    points = (lab * (LIGHTNESS_SCALE, 1.0, 1.0)).reshape(-1, 3)
    start = farthest_first(points, CLUSTERS)
    if len(start) == 1:
        members = np.zeros(len(points), dtype=np.int64)
    else:
        _, labels, _ = k_means(points, len(start), init=start, n_init=1, max_iter=60, tol=1e-4)
        members = labels.astype(np.int64)
    counts = np.bincount(members, minlength=len(start)).astype(np.float64)
    flat = lab.reshape(-1, 3)
    sums = np.stack([np.bincount(members, weights=flat[:, c], minlength=len(start)) for c in range(3)], axis=-1)
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    rank = np.zeros(len(start), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return Palette(centres=sums[order] / counts[order, None], shares=counts[order] / len(points),
                   members=rank[members].reshape(lab.shape[:2]), mean_chroma=float(chroma(flat).mean()))


def farthest_first(points: Floats, count: int) -> Floats:
    """Start centres (<= count, 3): the point nearest the mean, then always the one farthest from all chosen.

    Fewer than `count` when the points have fewer distinct values. Gonzalez (1985).
    """
    chosen = [int(np.argmin(_squared(points - points.mean(axis=0))))]
    gap = _squared(points - points[chosen[0]])
    while len(chosen) < count:
        farthest = int(np.argmax(gap))
        if gap[farthest] < 1e-12:
            break
        chosen.append(farthest)
        gap = np.minimum(gap, _squared(points - points[farthest]))
    return points[chosen]


def palette_drift(own: Palette, reference: Palette) -> float:
    """Least mean CIEDE2000 cost of turning one palette into the other: earth mover's distance, shares in 1/100.

    0 for equal palettes, about 100 from black to white. Rubner, Tomasi and Guibas (2000).
    """
    from scipy.optimize import linear_sum_assignment

    cost = ciede2000(own.centres[:, None], reference.centres[None])
    units = np.repeat(np.repeat(cost, share_units(own.shares), axis=0), share_units(reference.shares), axis=1)
    rows, columns = linear_sum_assignment(units)
    return float(units[rows, columns].mean())


def share_units(shares: Floats) -> NDArray[np.int64]:
    """Shares that sum to 1 as whole hundredths that sum to 100, by largest remainder."""
    exact = shares * SHARE_UNITS
    units = np.floor(exact).astype(np.int64)
    order = np.argsort(units - exact, kind="stable")
    units[order[: SHARE_UNITS - int(units.sum())]] += 1
    return units


def _squared(offsets: Floats) -> Floats:
    return np.asarray(np.einsum("ij,ij->i", offsets, offsets), dtype=np.float64)


def _palettes(images: Iterable[NDArray[np.uint8]]) -> list[Palette]:
    return [palette(image) for image in images]


def _score(image_set: ImageSet, number: int, own: Palette, references: list[Palette] | None) -> ImageScore:
    values = {"chroma": own.mean_chroma}
    missing: dict[str, str] = {}
    if references is None:
        missing = image_set.no_reference("palette_drift")
    else:
        values["palette_drift"] = palette_drift(own, references[number])
    clusters = [[*(round(float(v), 1) for v in centre), round(float(share), 4)]
                for centre, share in zip(own.centres, own.shares, strict=True)]
    return ImageScore(values=values, labels={"dominant": subject_colour(own.centres, own.members)},
                      details={"clusters": clusters}, missing=missing)


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Box average by a whole factor, so that no pixel of the picture counts twice."""
    from PIL import Image

    factor = -(-max(image.shape[:2]) // LONGEST_SIDE)
    return image if factor == 1 else np.asarray(Image.fromarray(image).reduce(factor))
