"""Declaration of the poses that images are compared with, and of the detector that finds persons in images."""

from __future__ import annotations

from dataclasses import dataclass

from harness.declare.normalise import settle


@dataclass(frozen=True, kw_only=True)
class Pose:
    """The wanted poses of the prompts, as keypoints, and the detector of the metric `pose`."""

    folder: str
    """A folder with a JSON file of OpenPose for each prompt, named by the prompt's id: "cat.json" for the prompt "cat"."""
    detector: str = ""
    """A local file with the weights of torchvision's keypointrcnn_resnet50_fpn. Without one nothing can be measured."""

    def __post_init__(self) -> None:
        settle(self)

    def file(self, prompt: str) -> str:
        """The file of a prompt, as declared."""
        return f"{self.folder.rstrip('/')}/{prompt}.json"
