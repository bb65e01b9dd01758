"""Wanted poses: the persons of an OpenPose JSON file, with the keypoints that COCO has."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.metrics.oks import KEYPOINTS
from harness.records.harmless_text import visible

BODY_25: Final = (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11)
"""The places in OpenPose's BODY_25 of COCO's seventeen keypoints. Its neck, middle of the hips and feet are not among them."""
COCO_18: Final = (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10)
"""The same in OpenPose's COCO layout of 18, which has a neck too."""
LAYOUTS: Final = {25: BODY_25, 18: COCO_18, 17: tuple(range(17))}
FEWEST: Final = 3
"""A person with fewer visible keypoints has no scale to speak of."""
Persons = tuple[NDArray[np.float64], ...]
_LARGEST: Final = 100_000
_MOST_BYTES: Final = 4_000_000
_MOST_PERSONS: Final = 100
_EXPECTED: Final = "expected a JSON file of OpenPose: {\"people\": [{\"pose_keypoints_2d\": [x, y, confidence, ...]}]}"


class PoseError(ValueError):
    """A file of a pose that cannot be used; the message names it and says what was expected."""


def read_pose(path: Path, width: int, height: int) -> Persons:
    """The persons of a file: each (17, 3), x and y as shares of the image's width and height, and 1 where the keypoint is
    visible, else 0.

    A keypoint of confidence 0 is not visible. Coordinates are pixels of the file's canvas, if it says one, or else of an image
    of `width` and `height`; if all visible ones lie between 0 and 1, they are shares already. Persons of the three layouts 25,
    18 and 17 are read; hands and faces are not. Raises PoseError for other content, for a canvas of another shape than the
    images, for points outside of it, and for a person with fewer than three visible keypoints.
    """
    what = f"pose {visible(path.name)!r}"
    data = _read(path, what)
    people = data.get("people") if isinstance(data, dict) else None
    if not isinstance(people, list) or not 0 < len(people) <= _MOST_PERSONS:
        raise PoseError(f"{what} has {len(people) if isinstance(people, list) else 'no list of'} people; {_EXPECTED}, with 1 to "
                        f"{_MOST_PERSONS} people")
    canvas = _canvas(data, what, width, height)
    persons = [_person(one, f"{what}, person {number}") for number, one in enumerate(people, 1)]
    for number, one in enumerate(persons, 1):
        if (count := int((one[:, 2] > 0).sum())) < FEWEST:
            raise PoseError(f"{what}, person {number} has {count} visible keypoints of the {len(KEYPOINTS)} that are compared; "
                            f"expected at least {FEWEST}. Remove the person, or complete it")
    seen = np.concatenate([one[one[:, 2] > 0, :2] for one in persons])
    if seen.min() < 0 or seen.max() > 1:
        outside = seen[((seen < 0) | (seen > canvas)).any(axis=1)]
        if len(outside):
            raise PoseError(f"{what} has a keypoint at {outside[0][0]:g}, {outside[0][1]:g}, outside of {canvas[0]} x "
                            f"{canvas[1]}; give keypoints for the size of the images, and confidence 0 to those that are not "
                            "seen")
        for one in persons:
            one[:, :2] /= canvas
    for number, one in enumerate(persons, 1):
        if float(np.ptp(one[one[:, 2] > 0, :2], axis=0).max()) == 0:
            raise PoseError(f"{what}, person {number} has all of its keypoints at one point; expected a person. Correct the file")
    return tuple(persons)


def _canvas(data: dict[str, Any], what: str, width: int, height: int) -> tuple[int, int]:
    """The size that the coordinates are for."""
    own = data.get("canvas_width", width), data.get("canvas_height", height)
    if not all(isinstance(side, int) and not isinstance(side, bool) and 0 < side <= _LARGEST for side in own):
        raise PoseError(f"{what} has a canvas of {visible(str(own)[:40])}; expected two positive numbers of pixels")
    if abs(own[0] / own[1] / (width / height) - 1) > 0.02:
        raise PoseError(f"{what} is for a canvas of {own[0]} x {own[1]}, and the images are {width} x {height}, of another "
                        "shape; give keypoints for the size of the images")
    return own


def _read(path: Path, what: str) -> Any:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise PoseError(f"{what} has more than {_MOST_BYTES} bytes; {_EXPECTED}")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise PoseError(f"{what} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, PoseError):
            raise
        raise PoseError(f"{what} is not JSON ({error}); {_EXPECTED}") from error


def _person(person: Any, what: str) -> NDArray[np.float64]:
    numbers = person.get("pose_keypoints_2d") if isinstance(person, dict) else None
    if not isinstance(numbers, list) or len(numbers) % 3 or len(numbers) // 3 not in LAYOUTS:
        given = f"{len(numbers)} numbers" if isinstance(numbers, list) else "no list of numbers"
        raise PoseError(f"{what} has {given} in pose_keypoints_2d; expected three for each of 25 (BODY_25), 18 or 17 "
                        "(COCO) keypoints")
    if not all(isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number) for number in numbers):
        raise PoseError(f"{what} has something else than finite numbers in pose_keypoints_2d")
    points = np.array(numbers, dtype=np.float64).reshape(-1, 3)[list(LAYOUTS[len(numbers) // 3])]
    points[:, 2] = points[:, 2] > 0
    return points
