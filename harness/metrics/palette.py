"""Dominant colours by k-means in CIE Lab: the palette's drift from the baseline, its chroma and the subject's colour by name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.metrics.colour_counts import BINS, count_colours
from harness.metrics.colour_names import subject_colour
from harness.metrics.contract import ImageScore, ImageSet
from harness.metrics.lab import Floats, chroma, ciede2000, lab_from_srgb

CLUSTERS: Final = 5
LONGEST_SIDE: Final = 48
SMALL_SIDE: Final = 2 * LONGEST_SIDE
"""Up to this side a picture is averaged to LONGEST_SIDE and clustered pixel by pixel; a larger one is counted by colour."""
STARTS: Final = 6
LIGHTNESS_SCALE: Final = 0.45
"""L* counts less than a* and b*, so that shading splits a coloured object into fewer clusters."""
SHARE_UNITS: Final = 100
REMEMBERED: Final = 4096
"""Images of a baseline whose clusters are kept, some 400 bytes each."""


@dataclass(frozen=True, kw_only=True)
class Colours:
    """Clusters of colours by falling share: mean L*a*b* (k, 3), and share of the pixels (k)."""

    centres: Floats
    shares: Floats


@dataclass(frozen=True, kw_only=True)
class Palette(Colours):
    """The clusters with each clustered pixel's cluster (h, w)."""

    members: NDArray[np.int64]
    mean_chroma: float


def measure_palette(image_set: ImageSet) -> list[ImageScore]:
    """Palette drift (dE00), mean chroma and the subject's colour name of each image."""
    from sklearn import config_context

    # One thread: cluster sums are then added in one order, and for small inputs threads cost more than they save.
    # The inputs are finite by construction; checking them again took a fifth of the time.
    with _thread_pools().limit(limits=1), config_context(assume_finite=True, skip_parameter_validation=True):
        # Pair by pair: a large picture's palette has a number per pixel, too much memory for a whole candidate.
        return [_score(image_set, number) for number in range(len(image_set.images))]


@cache
def _thread_pools() -> Any:
    """What limits the threads of the libraries that find clusters. Finding the libraries takes a tenth of a batch's time."""
    import sklearn.cluster  # so that they are there to be found
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # ships no stubs

    assert sklearn.cluster
    return ThreadpoolController()


def palette(image: NDArray[np.uint8]) -> Palette:
    """k-means clusters (k = 5 or the number of distinct colours) of a uint8 sRGB image (h, w, 3) on (0.45 L*, a*, b*).

    A picture of at most 96 pixels a side is box-averaged to at most 48 and clustered from a farthest-first start, which uses
    no random numbers. In a larger one all pixels count, in bins of similar colours (count_colours), and the best of six
    k-means++ starts is used, with the same seed for every picture. Block averaging would move the clusters of a photograph by
    1 to 4 dE00 and blend fine patterns into colours that do not occur, and different starts find different clusters. If two
    clusterings are equally good, a single pixel can still change the result by about 2 dE00 (seen in 1 of 12 scenes). Centres
    are returned in plain L*a*b*. Arthur and Vassilvitskii (2007).
    """
    return _small_palette(image) if max(image.shape[:2]) <= SMALL_SIDE else _large_palette(image)


def _small_palette(image: NDArray[np.uint8]) -> Palette:
    from sklearn.cluster import k_means

    lab = lab_from_srgb(_small(image))
    flat = lab.reshape(-1, 3)
    points = flat * (LIGHTNESS_SCALE, 1.0, 1.0)
    start = farthest_first(points, CLUSTERS)
    if len(start) == 1:
        labels = np.zeros(len(points), dtype=np.int64)
    else:
        _, labels, _ = k_means(points, len(start), init=start, n_init=1, max_iter=60, tol=1e-4)
    shares, centres, ranked = _by_share(flat, np.ones(len(flat)), labels.astype(np.int64))
    return Palette(centres=centres, shares=shares, members=ranked.reshape(lab.shape[:2]),
                   mean_chroma=float(chroma(flat).mean()))


def _large_palette(image: NDArray[np.uint8]) -> Palette:
    from sklearn.cluster import k_means

    colours = count_colours(image)
    if len(colours.counts) <= CLUSTERS:
        labels = np.arange(len(colours.counts), dtype=np.int64)
    else:
        _, labels, _ = k_means(colours.lab * (LIGHTNESS_SCALE, 1.0, 1.0), CLUSTERS, sample_weight=colours.counts,
                               init="k-means++", n_init=STARTS, random_state=0, max_iter=100, tol=1e-4)
    shares, centres, ranked = _by_share(colours.lab, colours.counts, labels.astype(np.int64))
    cluster_of = np.zeros(BINS, dtype=np.int64)
    cluster_of[colours.used] = ranked
    return Palette(centres=centres, shares=shares, members=cluster_of[colours.bins],
                   mean_chroma=float(np.average(chroma(colours.lab), weights=colours.counts)))


def _by_share(lab: Floats, weights: Floats, labels: NDArray[np.int64]) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Shares (k) and weighted mean colours (k, 3) of the clusters that have points, by falling share, and each point's
    cluster in that order."""
    cluster_weights = np.bincount(labels, weights=weights)
    sums = np.stack([np.bincount(labels, weights=lab[:, c] * weights) for c in range(3)], axis=-1)
    order = np.argsort(-cluster_weights, kind="stable")
    order = order[cluster_weights[order] > 0]
    rank = np.zeros(len(cluster_weights), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return cluster_weights[order] / cluster_weights.sum(), sums[order] / cluster_weights[order, None], rank[labels]


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


def palette_drift(own: Colours, reference: Colours) -> float:
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


def _score(image_set: ImageSet, number: int) -> ImageScore:
    own = palette(image_set.images[number])
    values = {"chroma": own.mean_chroma}
    missing: dict[str, str] = {}
    if image_set.references is None:
        missing = image_set.no_reference("palette_drift")
    else:
        values["palette_drift"] = palette_drift(own, _of_reference(image_set.references[number]))
    clusters = [[*(round(float(v), 1) for v in centre), round(float(share), 4)]
                for centre, share in zip(own.centres, own.shares, strict=True)]
    return ImageScore(values=values, labels={"dominant": subject_colour(own.centres, own.members)},
                      details={"clusters": clusters}, missing=missing)


def _of_reference(image: NDArray[np.uint8]) -> Colours:
    """The clusters of a baseline's image, which every other candidate asks for."""
    known = _known_colours(image.shape, hashlib.sha256(image.tobytes()).digest())
    if not known:
        whole = palette(image)
        known.append(Colours(centres=whole.centres, shares=whole.shares))
    return known[0]


@lru_cache(maxsize=REMEMBERED)
def _known_colours(_shape: tuple[int, ...], _digest: bytes) -> list[Colours]:
    """The place for the clusters of an image of this shape and content: they are kept, and the image is not."""
    return []


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Box average by an integer factor, so that every pixel counts once."""
    from PIL import Image

    factor = -(-max(image.shape[:2]) // LONGEST_SIDE)
    return image if factor == 1 else np.asarray(Image.fromarray(image).reduce(factor))
