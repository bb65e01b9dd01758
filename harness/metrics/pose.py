"""Do the persons of an image stand as wanted?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.metrics.contract import ImageScore, ImageSet
from harness.metrics.keypoints import Persons
from harness.metrics.oks import matched_oks

VALUES: Final = ("pose_oks", "pose_oks_chance", "pose_persons")
NO_POSE: Final = "the suite names no poses; give Suite(pose=Pose(folder=..., detector=...))"
NO_DETECTOR: Final = "no detector of persons is given; give Pose(detector=...) the weights of keypointrcnn_resnet50_fpn"
NO_OTHER_POSE: Final = "no other prompt has another pose"


def measure_pose(image_set: ImageSet) -> list[ImageScore]:
    """`pose_oks` (0 to 1): the object keypoint similarity of the wanted persons of the image's prompt with those that the
    detector finds; `pose_oks_chance`, the same with the next prompt's pose; `pose_persons`, how many it finds."""
    if not image_set.poses:
        return [ImageScore(missing=dict.fromkeys(VALUES, NO_POSE)) for _ in image_set.images]
    if image_set.detector is None:
        return [ImageScore(missing=dict.fromkeys(VALUES, NO_DETECTOR)) for _ in image_set.images]
    scores = []
    height, width = image_set.images.shape[1:3]

    def compared(persons: Persons, drawn: Sequence[NDArray[np.float64]]) -> float:
        return matched_oks([one * (width, height, 1) for one in persons], drawn)

    for image, wanted, other in zip(image_set.images, image_set.poses, image_set.other_poses, strict=True):
        drawn = image_set.detector.persons(image)
        values = {"pose_oks": compared(wanted, drawn), "pose_persons": float(len(drawn))}
        if other is not None:
            values["pose_oks_chance"] = compared(other, drawn)
        scores.append(ImageScore(values=values, missing={} if other is not None else {"pose_oks_chance": NO_OTHER_POSE}))
    return scores


def same_pose(one: Persons, other: Persons) -> bool:
    """Whether two poses have equal persons."""
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
