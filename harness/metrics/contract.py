"""The input and output of metrics: frozen data, arrays only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.records import ValueSpec

if TYPE_CHECKING:
    from harness.metrics.clip import ClipScorer
    from harness.metrics.keypoints import Persons
    from harness.metrics.pose_detector import PoseDetector


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """What a metric gets: images of one candidate with their prompts. Float images are refused, because their range (0..1 or
    0..255) is ambiguous."""

    images: NDArray[np.uint8]
    """RGB as uint8, of shape (n, height, width, 3)."""
    texts: tuple[str, ...]
    """The prompt of each image."""
    references: NDArray[np.uint8] | None = None
    """The baseline's images at the same prompt, seed and guidance, in the same form."""
    why_no_reference: str = ""
    """The reason why there are no references."""
    device: str = "cpu"
    """Where the run computes."""
    clip: ClipScorer | None = None
    """The suite's CLIP model, if the metric asks for it."""
    styles: Mapping[str, str] = field(default_factory=dict)
    """The suite's styles by name, each with its text."""
    pictures: Mapping[str, tuple[NDArray[np.uint8] | None, ...]] = field(default_factory=dict)
    """The pictures of the prompts by their names in `Prompt.pictures`, RGB as uint8 (h, w, 3), one per image; None for a prompt
    that has none of this name."""
    control_maps: tuple[NDArray[np.uint8] | None, ...] = ()
    """For each image the map that the suite's controls follow, in the same form; empty if no candidate has a control."""
    other_maps: tuple[NDArray[np.uint8] | None, ...] = ()
    """For each image the control map of the next prompt, for what chance alone gives."""
    shown: tuple[NDArray[np.uint8] | None, ...] = ()
    """For each image the picture that the suite's references show, in the same form; empty if no candidate has a reference."""
    all_shown: tuple[NDArray[np.uint8], ...] = ()
    """The reference pictures of all prompts of the suite."""
    poses: tuple[Persons, ...] = ()
    """For each image the wanted persons of its prompt, each (17, 3): x and y as shares of width and height, and whether the
    keypoint is visible; empty if the suite names no poses."""
    other_poses: tuple[Persons | None, ...] = ()
    """For each image the pose of the next prompt that has another one, for what chance alone gives."""
    detector: PoseDetector | None = None
    """What finds the persons in an image, if the suite names one."""

    def __post_init__(self) -> None:
        for name, array in (("images", self.images), ("references", self.references)):
            if array is not None and (array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3):
                raise ValueError(f"{name}: expected uint8 of shape (n, h, w, 3), given {array.dtype} {array.shape}")
        if len(self.texts) != len(self.images):
            raise ValueError(f"{len(self.images)} images but {len(self.texts)} texts; give one prompt per image")
        for name, listed in (*self.pictures.items(), ("control_maps", self.control_maps), ("other_maps", self.other_maps),
                             ("shown", self.shown), ("poses", self.poses), ("other_poses", self.other_poses)):
            if len(listed) not in (0, len(self.images)):
                raise ValueError(f"{len(self.images)} images but {len(listed)} {name}; give one per image")
        if self.references is not None and self.references.shape != self.images.shape:
            raise ValueError(f"references {self.references.shape} must have the shape of images {self.images.shape}")

    def no_reference(self, name: str) -> dict[str, str]:
        """The `missing` entry of a value whose reference image was not given."""
        return {name: self.why_no_reference or "no reference image of the same prompt, seed and guidance"}


@dataclass(frozen=True, kw_only=True)
class ImageScore:
    """What a metric gives for one image: every name of its values is in `values` or, with the reason, in `missing`."""

    values: Mapping[str, float] = field(default_factory=dict)
    """Numbers by the name of the value."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Words by name, such as the style of an image."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Anything else, for the record."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """The reason, by the name of a value that cannot be given."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A row of METRICS: a function, and the values that it gives."""

    measure: Callable[[ImageSet], list[ImageScore]]
    """Gives an ImageScore for each image of an ImageSet."""
    version: int
    """Increases whenever the same image would get another number."""
    values: tuple[ValueSpec, ...]
    """A ValueSpec for each value that it gives."""
    paper: str = ""
    """Where it comes from."""
    needs_clip: bool = False
    """Asks for the suite's CLIP model."""
    uses_styles: bool = False
    """The values also depend on the suite's styles."""
    uses_pictures: bool = False
    """The values also depend on the pictures of the prompts."""
    uses_poses: bool = False
    """The values also depend on the suite's poses and their detector."""

    @property
    def paired(self) -> bool:
        """Whether any of its values needs the baseline's image."""
        return any(spec.paired for spec in self.values)

    def rows(self, name: str) -> tuple[ValueSpec, ...]:
        """The rows of its values, with the metric's `name`, version and paper filled in."""
        return tuple(replace(spec, metric=name, version=self.version, paper=self.paper) for spec in self.values)
