"""Poses of a suite in a run: read and checked before the first image, measured, and measured again when they change."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import Gate, Objective, Pose, Suite
from harness.check import problems, remarks
from harness.declare import plain, restore
from harness.metrics.keypoints import read_pose
from harness.records import Measurement
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from tests.fakes import PROMPTS, plain_candidate, tiny_grid, tiny_suite
from tests.metrics.test_pose import COCO_18_NAMES, numbers
from tests.painted import paint_runs
from tests.run.test_images import go, records

POSES = {"star": {"nose": (32.0, 10.0), "left_hip": (40.0, 40.0), "right_hip": (20.0, 40.0)},
         "car": {"nose": (30.0, 12.0), "left_hip": (44.0, 50.0), "right_hip": (24.0, 50.0)}}


class FindsTheStar:
    """A detector whose every image shows the pose of the prompt "star"."""

    def __init__(self, root: Path) -> None:
        (self._person,) = read_pose(root / "poses" / "star.json", 64, 64)

    def persons(self, image: np.ndarray) -> list[np.ndarray]:
        return [self._person[:, :2] * image.shape[1::-1]]


def suite(**changes: Any) -> Suite:
    candidates = (plain_candidate(),)
    return tiny_suite(**{"candidates": candidates, "baseline": "photo", "gates": (), "metrics": ("exposure", "pose"),
                         "grid": tiny_grid(prompts=PROMPTS[:2], width=64, height=64),
                         "pose": Pose(folder="poses", detector="net.pth"),
                         "objective": Objective(maximise="pose_oks", penalties=()), **changes})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    paint_runs(monkeypatch)
    (tmp_path / "poses").mkdir()
    for name, points in POSES.items():
        (tmp_path / "poses" / f"{name}.json").write_text(json.dumps({"people": [numbers(points, COCO_18_NAMES)]}))
    (tmp_path / "net.pth").write_bytes(b"PK\x03\x04")
    monkeypatch.setattr("harness.run.prompt_poses.load_detector", lambda _: FindsTheStar(tmp_path))
    return tmp_path


def measured(root: Path) -> list[Measurement]:
    return [one for one in records(root, Measurement) if isinstance(one, Measurement) and one.metric == "pose"]


def test_every_image_is_compared_with_the_pose_of_its_prompt(root: Path) -> None:
    go(root, suite())
    for one in measured(root):
        own, chance = ("pose_oks", "pose_oks_chance") if one.cell.prompt == "star" else ("pose_oks_chance", "pose_oks")
        assert one.values[own] == pytest.approx(1.0)
        assert 0 < one.values[chance] < 0.9
        assert one.values["pose_persons"] == 1
    assert {one.cell.prompt for one in measured(root)} == set(POSES)


def test_images_are_measured_again_when_a_pose_or_the_detector_changes(root: Path) -> None:
    go(root, suite())
    count = len(measured(root))
    go(root, suite())
    assert len(measured(root)) == count
    turned = {"people": [numbers(POSES["star"], COCO_18_NAMES)]}
    (root / "poses" / "car.json").write_text(json.dumps(turned))
    go(root, suite())
    assert len(measured(root)) == 2 * count
    assert measured(root)[-1].values["pose_oks"] == pytest.approx(1.0)
    (root / "net.pth").write_bytes(b"PK\x03\x04 another")
    go(root, suite())
    assert len(measured(root)) == 3 * count


def test_without_a_detector_the_values_are_missing_with_the_reason(root: Path) -> None:
    alone = suite(pose=Pose(folder="poses"), objective=Objective(maximise="saturation", penalties=()))
    go(root, alone)
    assert all("no detector" in why for one in measured(root) for why in one.missing.values())
    assert not any(one.values for one in measured(root))
    assert any("'pose' is given no detector" in text for text in remarks(alone, root))
    assert problems(alone, root) == []


def test_weights_of_another_network_are_refused_before_the_first_image(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    paint_runs(monkeypatch)
    import torch

    torch.save({"a.weight": torch.zeros(2)}, root / "net.pth")
    run = SuiteRun(suite(), "s.py", Options(root=root, runs=root / "runs"), Silent())
    try:
        (problem,) = run.preflight()
    finally:
        run.close()
    assert "pose: " in problem
    assert "net.pth: this is not torchvision's keypointrcnn_resnet50_fpn" in problem


@pytest.mark.parametrize(("changes", "words"), [
    ({"metrics": ("exposure",), "objective": Objective(maximise="saturation", penalties=())}, "no metric uses it"),
    ({"pose": Pose(folder="pose", detector="net.pth")}, "'pose' is not a folder"),
    ({"pose": Pose(folder="poses", detector="nowhere.pth")}, "'nowhere.pth' does not exist"),
    ({"pose": Pose(folder="poses")}, "objective: 'pose_oks' cannot be measured, as no detector"),
    ({"pose": None}, "objective: 'pose_oks' cannot be measured, as no poses"),
    ({"pose": None, "objective": Objective(maximise="saturation", penalties=()),
      "gates": (Gate(value="pose_oks", at_least=0.5),)},
     "gate 'pose_oks at_least 0.5': 'pose_oks' cannot be measured"),
    ({"grid": tiny_grid(prompts=PROMPTS[:3], width=64, height=64)}, "1 of 3 prompts have no file in 'poses' ('cat')"),
    ({"grid": tiny_grid(prompts=PROMPTS[:2], width=64, height=32)}, "outside of 64 x 32"),
    ({"pose": Pose(folder=3)}, "folder"),  # type: ignore[arg-type]
])
def test_what_cannot_be_measured_is_refused_by_the_check(changes: dict[str, Any], words: str, root: Path) -> None:
    assert any(words in sentence for sentence in problems(suite(**changes), root)), problems(suite(**changes), root)


def test_what_the_refusals_and_remarks_say_to_do_works(root: Path) -> None:
    plain_objective = Objective(maximise="saturation", penalties=())
    for lacking, advice, given in (
            (suite(pose=Pose(folder="pose", detector="net.pth")), "give one with a JSON file for each prompt", suite()),
            (suite(pose=Pose(folder="poses")), "give Suite(pose=Pose(folder='poses', detector=", suite()),
            (suite(pose=None, objective=plain_objective), "or remove the metric",
             suite(pose=None, objective=plain_objective, metrics=("exposure",)))):
        assert any(advice in sentence for sentence in (*problems(lacking, root), *remarks(lacking, root)))
        assert [*problems(given, root), *remarks(given, root)] == []


def test_poses_are_kept_in_the_run_and_change_no_suite_without_them() -> None:
    assert restore(plain(suite())) == suite()
    assert "pose" not in plain(replace(suite(), pose=None))
