"""Object keypoint similarity: how near the keypoints of found persons are to wanted ones, by COCO's formula."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

KEYPOINTS: Final = ("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
                    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
                    "right_ankle")
"""COCO's seventeen, in its order."""
SIGMAS: Final = (0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
                 0.089)
"""How far people who mark each keypoint differ, as a share of the person's scale."""
BODY_SHARE: Final = 0.53
"""The share of the box around its keypoints that a person covers. OpenPose's files have no outline, and COCO's area is that of
the outline."""
SLIMMEST: Final = 1 / 3
"""The shorter side of a box counts as at least this share of the longer one: a person seen from the side has nearly none."""


def person_area(points: NDArray[np.float64]) -> float:
    """The area, in square pixels, that stands for a person with these visible keypoints (k, 2)."""
    width, height = (float(side) for side in np.ptp(points, axis=0))
    longer = max(width, height)
    return BODY_SHARE * longer * max(min(width, height), SLIMMEST * longer)


def oks(wanted: NDArray[np.float64], drawn: NDArray[np.float64]) -> float:
    """The similarity, 0 to 1, of a person's keypoints (17, 2) `drawn` to those `wanted` (17, 3), whose third column is above 0
    where a keypoint is visible.

    The mean over the visible keypoints of exp(-d^2 / (2 s^2 k^2)) with the distance d in pixels, s^2 the area of the wanted
    person (see `person_area`) and k = 2 sigma. Ronchi and Perona, ICCV 2017, and the COCO keypoint evaluation.
    """
    visible = wanted[:, 2] > 0
    squared = ((wanted[visible, :2] - drawn[visible]) ** 2).sum(axis=1)
    variances = (2 * np.array(SIGMAS)[visible]) ** 2
    return float(np.exp(-squared / (2 * person_area(wanted[visible, :2]) * variances)).mean())


def matched_oks(wanted: Sequence[NDArray[np.float64]], drawn: Sequence[NDArray[np.float64]]) -> float:
    """The mean similarity of wanted persons, each with one found person at most, in the pairing of the largest sum. A wanted
    person without a found one has 0. Found persons beyond the wanted ones change nothing."""
    from scipy.optimize import linear_sum_assignment

    if not drawn:
        return 0.0
    table = np.array([[oks(one, other) for other in drawn] for one in wanted])
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / len(wanted))
