"""The poses of a suite's prompts and the detector of persons as the metric is given them, each read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from threading import RLock

from harness.declare import Suite, short_hash
from harness.metrics import METRICS
from harness.metrics.keypoints import Persons, PoseError, read_pose
from harness.metrics.pose import same_pose
from harness.metrics.pose_detector import PoseDetector, load_detector


class PromptPoses:
    """`path` resolves a file as declared, and `content` gives its hash."""

    def __init__(self, suite: Suite, path: Callable[[str], Path], content: Callable[[str], str]) -> None:
        self._path, self._content, self._grid = path, content, suite.grid
        self._asked = [name for name in dict.fromkeys(suite.metrics) if METRICS[name].uses_poses]
        self._pose = suite.pose if self._asked else None
        self._loading = RLock()
        self._detector: PoseDetector | None = None
        self._noted = self._contents()

    def settings(self, others: dict[str, str]) -> dict[str, str]:
        """Those of `others`, {metric: hash of everything else that determines its values}, with poses and detector in those of
        the metrics that use them."""
        return others | {name: short_hash([others.get(name, ""), self._noted]) for name in self._asked}

    @property
    def detector(self) -> PoseDetector | None:
        """The detector, loaded if necessary; None if the suite names none."""
        if self._pose is None or not self._pose.detector:
            return None
        with self._loading:  # metrics may ask from several threads
            if self._detector is None:
                detector = load_detector(self._path(self._pose.detector))
                if self._contents() != self._noted:
                    raise PoseError("the pose detector or a pose was changed since the run began. Run again once nothing writes "
                                    "to them")
                self._detector = detector
            return self._detector

    def problem(self) -> str:
        """Why poses or detector cannot be used; empty if they can, or none are asked for."""
        try:
            self.of([prompt.id for prompt in self._grid.prompts])
            _ = self.detector
        except Exception as error:
            return str(error)
        return ""

    def release(self) -> None:
        """Releases the detector."""
        self._detector = None

    def of(self, prompts: Sequence[str]) -> tuple[Persons, ...]:
        """The wanted persons of each of the prompts, by their ids; empty without poses."""
        return tuple(self._persons[prompt] for prompt in prompts) if self._persons else ()

    def others(self, prompts: Sequence[str]) -> tuple[Persons | None, ...]:
        """The persons of the next prompt with another pose, in the same way; None where all prompts have one pose."""
        return tuple(map(self._next, prompts)) if self._persons else ()

    def _next(self, prompt: str) -> Persons | None:
        listed, own = list(self._persons), self._persons[prompt]
        place = listed.index(prompt)
        return next((persons for other in (*listed[place + 1:], *listed[:place])
                     if not same_pose(persons := self._persons[other], own)), None)

    @cached_property
    def _persons(self) -> dict[str, Persons]:
        pose = self._pose
        size = self._grid.width, self._grid.height
        return {} if pose is None else {prompt.id: read_pose(self._path(pose.file(prompt.id)), *size)
                                        for prompt in self._grid.prompts}

    def _contents(self) -> list[str]:
        """The contents of the poses by prompt, and of the detector. Files that cannot be read are refused elsewhere."""
        if self._pose is None:
            return []
        files = [*(self._pose.file(prompt.id) for prompt in self._grid.prompts), *filter(None, [self._pose.detector])]
        try:
            return [f"{self._grid.width} x {self._grid.height}", *map(self._content, files)]
        except (OSError, ValueError):
            return ["unreadable"]
