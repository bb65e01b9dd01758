"""Problems of the poses of a suite: their files, the detector's, and what asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from harness.check.field_types import type_problems
from harness.check.files import hub_problems
from harness.check.values import parts_of_objective
from harness.declare import Pose, Suite
from harness.declare.listing import first_of
from harness.hub import PREFIX, place
from harness.metrics import METRICS
from harness.metrics.keypoints import PoseError, read_pose
from harness.metrics.pose_detector import WHERE_FROM
from harness.weights.content import PICKLE, SAFETENSORS, content_of, trouble_of

_OF_POSES: Final = ("pose_oks", "pose_oks_chance", "pose_persons")
EXAMPLE: Final = "Suite(pose=Pose(folder='poses', detector='keypointrcnn_resnet50_fpn_coco-fc266e95.pth'))"


def pose_problems(suite: Suite, root: Path) -> Iterator[str]:
    """One phrase per problem, for a suite whose fields have the right types."""
    if suite.pose is not None and (wrong := list(type_problems(suite.pose))):
        yield from (f"pose: {phrase}" for phrase in wrong)
        return
    asking = [name for name in suite.metrics if (row := METRICS.find(name)) is not None and row.uses_poses]
    if suite.pose is None or not suite.pose.detector:
        lacking = "no poses are given" if suite.pose is None else "no detector of persons is given"
        for value in parts_of_objective(suite.objective):
            if value in _OF_POSES and asking:
                yield f"objective: {value!r} cannot be measured, as {lacking}; give {EXAMPLE}, or use another value"
        for gate in suite.gates:
            if gate.value in _OF_POSES and asking:
                yield f"gate {gate.name!r}: {gate.value!r} cannot be measured, as {lacking}; give {EXAMPLE}, or use another value"
    if suite.pose is not None:
        if not asking:
            yield "pose is given, but no metric uses it; add 'pose' to metrics, or remove pose"
        yield from _files(suite, suite.pose, root)
        yield from (f"pose: {phrase}" for phrase in _detector(suite.pose.detector, root))


def pose_remarks(suite: Suite) -> Iterator[str]:
    """A metric that cannot be measured."""
    if "pose" in suite.metrics and (suite.pose is None or not suite.pose.detector):
        lacking = "poses" if suite.pose is None else "detector of persons"
        yield f"metric 'pose' is given no {lacking}, so it cannot be measured; give {EXAMPLE}, or remove the metric"


def _files(suite: Suite, pose: Pose, root: Path) -> Iterator[str]:
    if not pose.folder.strip() or not (root / pose.folder).is_dir():
        yield f"pose: {pose.folder!r} is not a folder below {root}; give one with a JSON file for each prompt"
        return
    lacking = [prompt.id for prompt in suite.grid.prompts if not (root / pose.file(prompt.id)).is_file()]
    if lacking:
        yield (f"pose: {len(lacking)} of {len(suite.grid.prompts)} prompts have no file in {pose.folder!r} "
               f"({first_of([*map(repr, lacking)])}). Name each file after its prompt's id, such as {lacking[0]}.json")
    for prompt in suite.grid.prompts:
        if prompt.id not in lacking:
            try:
                read_pose(root / pose.file(prompt.id), suite.grid.width, suite.grid.height)
            except PoseError as error:
                yield f"pose: {error}"


def _detector(path: str, root: Path) -> Iterator[str]:
    if not path:
        return
    if path.startswith(PREFIX) and (phrases := [*hub_problems(path)]):
        yield from (f"the detector {path!r}: {phrase}" for phrase in phrases)
        return
    file = place(path, root)
    if not file.exists():
        yield f"the detector {path!r} does not exist below {root}; {WHERE_FROM}"
    elif file.is_dir():
        yield f"the detector {path!r} is a folder; {WHERE_FROM}"
    else:
        content = content_of(file)
        if wrong := trouble_of(content):
            yield f"the detector {path!r}: {wrong}"
        elif content.kind not in (PICKLE, SAFETENSORS):
            yield f"the detector {path!r} is not a file of tensors; {WHERE_FROM}"
