"""Names the colour of an image's subject from clustered pixels, without background and distractors, weighted towards the
centre."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.metrics.lab import Floats, lab_from_srgb

NONE: Final = "none"
NAMED: Final[dict[str, tuple[int, int, int]]] = {
    "red": (205, 40, 45),
    "orange": (240, 135, 35),
    "yellow": (240, 210, 55),
    "green": (60, 155, 70),
    "blue": (50, 95, 205),
    "purple": (135, 65, 170),
    "pink": (240, 135, 180),
    "black": (35, 35, 40),
    "white": (245, 245, 245),
    "gray": (145, 145, 148),
    "brown": (120, 80, 50),
}
DISTRACTORS: Final[dict[str, tuple[int, int, int]]] = {
    "skin": (235, 195, 165),
    "cream": (240, 230, 205),
    "glass": (185, 210, 225),
}
YIELDING: Final = ("black", "white", "gray", "brown")
"""Outlines, wheels, highlights and wood: dropped when a coloured name has more than a third of their weight."""

_LIGHTNESS_SCALE: Final = 0.45
_RING_SHARE: Final = 0.078
_RING_OWNER: Final = 0.12
_RING_DISTANCE: Final = 12.0
_SIGMA: Final = 0.28
_LEAST_SHARE: Final = 0.03
"""Smallest share of the image's total weight; less is a blended edge, not a subject."""


def subject_colour(centres: Floats, members: NDArray[np.int64]) -> str:
    """The subject's colour name, or "none" if there is nothing but background and distractors.

    `centres` are L*a*b* cluster means (k, 3), `members` each pixel's cluster (h, w). Clusters that own more than
    12 % of the border ring (0.078 of the longer side), or lie within 12 (L* scaled by 0.45) of its median colour,
    are background. The rest take the nearest name; a name's weight is the Gaussian area (sigma 0.28 of the side,
    centred) of its pixels, and a colour with less than 3 % of the image's weight is not a subject.
    """
    scaled = centres * (_LIGHTNESS_SCALE, 1.0, 1.0)
    weight = np.bincount(members.ravel(), weights=_centre_weight(members.shape[0], members.shape[1]).ravel(),
                         minlength=len(centres))
    weights: dict[str, float] = {}
    for cluster in np.flatnonzero(~_background(scaled, members)):
        name = nearest_name(scaled[cluster])
        if name not in DISTRACTORS:
            weights[name] = weights.get(name, 0.0) + float(weight[cluster])
    coloured = max((w for name, w in weights.items() if name not in YIELDING), default=0.0)
    least = _LEAST_SHARE * float(weight.sum())
    eligible = {name: w for name, w in weights.items() if w >= least and (name not in YIELDING or coloured <= w / 3)}
    return max(eligible, key=lambda name: eligible[name]) if eligible else NONE


def nearest_name(scaled: Floats) -> str:
    """Name of NAMED or DISTRACTORS whose anchor is nearest to (0.45 L*, a*, b*)."""
    names, anchors = _anchors()
    return names[int(np.argmin(((anchors - scaled) ** 2).sum(axis=1)))]


def _background(scaled: Floats, members: NDArray[np.int64]) -> NDArray[np.bool_]:
    ring = members[_ring(members.shape[0], members.shape[1])]
    counts = np.bincount(ring, minlength=len(scaled))
    owned = counts / len(ring)
    median = np.array([_median(axis, counts) for axis in scaled.T])
    near = np.sqrt(((scaled - median) ** 2).sum(axis=1)) < _RING_DISTANCE
    return np.asarray((owned > _RING_OWNER) | near)


def _median(values: Floats, counts: NDArray[np.int64]) -> float:
    """Median of values that occur `counts` times each: a ring of a large picture has few colours and many pixels."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(counts[order])
    middle = [values[order[int(np.searchsorted(reached, place, side="right"))]]
              for place in ((reached[-1] - 1) // 2, reached[-1] // 2)]
    return float(middle[0] + middle[1]) / 2


@lru_cache(maxsize=1)
def _anchors() -> tuple[tuple[str, ...], Floats]:
    rows = [(name, rgb) for table in (NAMED, DISTRACTORS) for name, rgb in table.items()]
    lab = lab_from_srgb(np.array([rgb for _, rgb in rows], dtype=np.uint8))
    return tuple(name for name, _ in rows), lab * (_LIGHTNESS_SCALE, 1.0, 1.0)


@lru_cache(maxsize=32)
def _ring(height: int, width: int) -> NDArray[np.bool_]:
    thick = max(1, round(_RING_SHARE * max(height, width)))
    ring = np.ones((height, width), dtype=np.bool_)
    ring[thick:-thick, thick:-thick] = False
    return ring


@lru_cache(maxsize=32)
def _centre_weight(height: int, width: int) -> Floats:
    down = ((np.arange(height) + 0.5) / height - 0.5) / _SIGMA
    across = ((np.arange(width) + 0.5) / width - 0.5) / _SIGMA
    return np.asarray(np.exp(-(down[:, None] ** 2 + across[None] ** 2) / 2), dtype=np.float64)
