"""Poses: keypoints of OpenPose files, the similarity by COCO's formula, the pairing of persons, and the detector's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from harness.metrics import METRICS
from harness.metrics.contract import ImageScore, ImageSet
from harness.metrics.keypoints import PoseError, read_pose
from harness.metrics.oks import BODY_SHARE, KEYPOINTS, matched_oks, oks, person_area
from harness.metrics.pose import NO_DETECTOR, NO_POSE
from harness.metrics.pose_detector import load_detector
from harness.weights.safetensors_header import ModelFileError
from tests.control.nets import write

COCO_SIGMAS = np.array([.26, .25, .25, .35, .35, .79, .79, .72, .72, .62, .62, 1.07, 1.07, .87, .87, .89, .89]) / 10
BODY_25_NAMES = ("nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
                 "middle_hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye",
                 "left_eye", "right_ear", "left_ear", "left_big_toe", "left_small_toe", "left_heel", "right_big_toe",
                 "right_small_toe", "right_heel")
COCO_18_NAMES = (*BODY_25_NAMES[:8], *BODY_25_NAMES[9:19])


def person(seed: int = 0, hidden: tuple[int, ...] = ()) -> NDArray[np.float64]:
    """Seventeen keypoints in an image of 100 x 200, some not visible."""
    points = np.random.default_rng(seed).uniform((10, 10), (90, 190), (17, 2))
    return np.concatenate([points, np.array([[float(n not in hidden)] for n in range(17)])], axis=1)


def by_pycocotools(wanted: NDArray[np.float64], drawn: NDArray[np.float64], area: float) -> float:
    """The lines of COCOeval.computeOks for a person with visible keypoints."""
    variances = (COCO_SIGMAS * 2) ** 2
    dx, dy = drawn[:, 0] - wanted[:, 0], drawn[:, 1] - wanted[:, 1]
    e = (dx ** 2 + dy ** 2) / variances / (area + np.spacing(1)) / 2
    e = e[wanted[:, 2] > 0]
    return float(np.sum(np.exp(-e)) / e.shape[0])


@pytest.mark.parametrize("hidden", [(), (0, 3, 16)])
def test_the_similarity_is_that_of_pycocotools(hidden: tuple[int, ...]) -> None:
    for seed in range(20):
        wanted = person(seed, hidden)
        drawn = wanted[:, :2] + np.random.default_rng(seed + 100).normal(0, 8, (17, 2))
        seen = wanted[wanted[:, 2] > 0, :2]
        assert oks(wanted, drawn) == pytest.approx(by_pycocotools(wanted, drawn, person_area(seen)), rel=1e-12)


def test_hand_values() -> None:
    """A box of 30 x 60 stands for 0.53 * 1800 = 954 square pixels; the nose (sigma 0.026) 3 pixels away has
    exp(-9 / (2 * 954 * 0.052^2)) = 0.17474, the other two points 1."""
    wanted = np.zeros((17, 3))
    wanted[[0, 15, 16]] = (30, 0, 1), (0, 60, 1), (30, 60, 1)
    assert person_area(wanted[[0, 15, 16], :2]) == pytest.approx(0.53 * 30 * 60)
    drawn = wanted[:, :2].copy()
    assert oks(wanted, drawn) == 1.0
    drawn[0, 0] += 3
    assert oks(wanted, drawn) == pytest.approx((2 + 0.174737) / 3, abs=1e-4)
    drawn[5] = 1e6  # not visible in the wanted person
    assert oks(wanted, drawn) == pytest.approx((2 + 0.174737) / 3, abs=1e-4)


def test_a_person_seen_from_the_side_has_an_area() -> None:
    assert person_area(np.array([[5.0, 0.0], [5.0, 60.0]])) == pytest.approx(BODY_SHARE * 60 * 20)
    assert person_area(np.array([[0.0, 5.0], [60.0, 25.0]])) == pytest.approx(BODY_SHARE * 60 * 20)


def test_each_wanted_person_is_paired_with_one_found_person() -> None:
    one, two = person(1), person(2)
    points = [each[:, :2] for each in (one, two)]
    assert matched_oks([one, two], points[::-1]) == pytest.approx(1.0)
    assert matched_oks([one, two], points[:1]) == pytest.approx(0.5)
    assert matched_oks([one], [*points, points[0] + 1]) == pytest.approx(1.0)
    assert matched_oks([one, one], points[:1]) == pytest.approx(0.5)
    assert matched_oks([one], []) == 0.0


def test_the_pairing_has_the_largest_sum_and_not_the_best_pair() -> None:
    """The nearest found person of both is the first; taking it for the one it fits best would leave the other with nothing."""
    wanted = [person(1), person(1)]
    wanted[1][:, 0] += 6
    drawn = [wanted[0][:, :2] + (4, 0), wanted[0][:, :2] - (5, 0)]
    table = [[oks(one, other) for other in drawn] for one in wanted]
    best = max(table[0][0] + table[1][1], table[0][1] + table[1][0]) / 2
    assert matched_oks(wanted, drawn) == pytest.approx(best)


def file_of(path: Path, people: list[Any], **more: Any) -> Path:
    path.write_text(json.dumps({"version": 1.3, "people": people, **more}))
    return path


def numbers(points: dict[str, tuple[float, float]], names: tuple[str, ...]) -> dict[str, Any]:
    """A person of a file by the names of its keypoints; those that are not given have confidence 0."""
    return {"pose_keypoints_2d": [value for name in names
                                  for value in ((*points[name], 0.7) if name in points else (0, 0, 0))]}


@pytest.mark.parametrize("names", [BODY_25_NAMES, COCO_18_NAMES, KEYPOINTS], ids=["BODY_25", "COCO 18", "COCO 17"])
def test_every_keypoint_of_openpose_has_its_place_in_coco(names: tuple[str, ...], tmp_path: Path) -> None:
    points = {name: (float(3 + 4 * place), float(5 + 11 * place)) for place, name in enumerate(KEYPOINTS) if name != "left_ear"}
    shares = points | {"neck": (50.0, 50.0), "left_heel": (60.0, 60.0)}
    (read,) = read_pose(file_of(tmp_path / "a.json", [numbers(shares, names)]), 100, 200)
    for place, name in enumerate(KEYPOINTS):
        assert read[place, 2] == (name in points)
        if name in points:
            assert tuple(read[place, :2] * (100, 200)) == pytest.approx(points[name])


def test_coordinates_may_be_shares_or_pixels_of_a_canvas_of_the_same_shape(tmp_path: Path) -> None:
    points = {"nose": (50.0, 20.0), "left_hip": (40.0, 100.0), "right_hip": (60.0, 100.0)}
    (pixels,) = read_pose(file_of(tmp_path / "a.json", [numbers(points, COCO_18_NAMES)]), 100, 200)
    shares = {name: (x / 100, y / 200) for name, (x, y) in points.items()}
    (own,) = read_pose(file_of(tmp_path / "b.json", [numbers(shares, COCO_18_NAMES)]), 100, 200)
    double = {name: (2 * x, 2 * y) for name, (x, y) in points.items()}
    (large,) = read_pose(file_of(tmp_path / "c.json", [numbers(double, COCO_18_NAMES)], canvas_width=200, canvas_height=400),
                         100, 200)
    np.testing.assert_allclose(own, pixels, atol=1e-12)
    np.testing.assert_allclose(large, pixels, atol=1e-12)


THREE = {"nose": (5.0, 5.0), "left_hip": (9.0, 9.0), "right_hip": (3.0, 9.0)}
GOOD = numbers(THREE, COCO_18_NAMES)


@pytest.mark.parametrize(("content", "words"), [
    ("no json", "is not JSON"), ("[1]", "no list of people"), ('{"people": []}', "0 people"), ("[" * 100_000, "is not JSON"),
    (json.dumps({"people": [{"pose_keypoints_2d": [1.0] * 12}]}), "12 numbers"),
    (json.dumps({"people": [{"face_keypoints_2d": []}]}), "person 1 has no list of numbers"),
    (json.dumps({"people": [{"pose_keypoints_2d": ["a"] * 54}]}), "finite numbers"),
    ('{"people": [{"pose_keypoints_2d": [' + ", ".join(["NaN"] * 54) + "]}]}", "finite numbers"),
    (json.dumps({"people": [GOOD, numbers({"nose": (5, 5)}, COCO_18_NAMES)]}), "person 2 has 1 visible keypoints"),
    (json.dumps({"people": [numbers(dict.fromkeys(THREE, (5.0, 5.0)), COCO_18_NAMES)]}), "at one point"),
    (json.dumps({"people": [numbers({**THREE, "nose": (500.0, 5.0)}, COCO_18_NAMES)]}), "at 500, 5, outside of 100 x 200"),
    (json.dumps({"people": [GOOD], "canvas_width": 200, "canvas_height": 200}),
     "canvas of 200 x 200, and the images are 100 x 200"),
    (json.dumps({"people": [GOOD], "canvas_width": "x", "canvas_height": 0}), "expected two positive numbers"),
    (json.dumps({"people": [GOOD] * 101}), "101 people"),
])
def test_other_files_are_refused_by_name(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "cat.json").write_text(content)
    with pytest.raises(PoseError, match=words) as refused:
        read_pose(tmp_path / "cat.json", 100, 200)
    assert "cat.json" in str(refused.value)


class Fixed:
    """A detector that finds the same persons in every image, in pixels of an image of 100 x 200."""

    def __init__(self, *persons: NDArray[np.float64]) -> None:
        self._persons = persons

    def persons(self, image: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        return [one[:, :2] / (100, 200) * image.shape[1::-1] for one in self._persons]


def measured(detector: Any, *poses: Any, others: Any = (None,), height: int = 200, width: int = 100) -> ImageScore:
    shares = tuple(tuple(one / (100, 200, 1) for one in persons) for persons in poses)
    (score, *_) = METRICS["pose"].measure(ImageSet(
        images=np.zeros((1, height, width, 3), dtype=np.uint8), texts=("",), poses=shares, detector=detector,
        other_poses=others if poses else ()))
    return score


def test_the_metric_compares_the_found_persons_with_those_of_the_prompt() -> None:
    one, two = person(1), person(2)
    score = measured(Fixed(one, two), (one, two))
    assert dict(score.values) == {"pose_oks": pytest.approx(1.0), "pose_persons": 2.0}
    assert dict(score.missing) == {"pose_oks_chance": METRICS["pose"].values[1].undefined}
    assert measured(Fixed(), (one,)).values["pose_oks"] == 0.0
    chance = measured(Fixed(one), (one,), others=((two / (100, 200, 1),),)).values["pose_oks_chance"]
    assert chance == pytest.approx(oks(two, one[:, :2]))


def test_images_of_another_size_are_compared_at_their_own(tmp_path: Path) -> None:
    assert measured(Fixed(person(1)), (person(1),), height=400, width=200).values["pose_oks"] == pytest.approx(1.0)


def test_without_poses_or_detector_the_values_are_missing_with_the_reason() -> None:
    assert set(measured(Fixed()).missing.values()) == {NO_POSE}
    assert set(measured(None, (person(),)).missing.values()) == {NO_DETECTOR}


@pytest.fixture(scope="module")
def network() -> dict[str, torch.Tensor]:
    """Random weights of the real network, as torchvision saves them."""
    from torchvision.models.detection import keypointrcnn_resnet50_fpn

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    return {name: tensor for name, tensor in model.state_dict().items() if "num_batches_tracked" not in name}


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_the_real_network_is_built_from_its_file_and_finds_what_torchvision_finds(
        suffix: str, network: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models.detection import keypointrcnn_resnet50_fpn

    path = tmp_path / f"net.{suffix}"
    torch.save(network, path) if suffix == "pth" else write(path, network)
    monkeypatch.setattr("harness.metrics.pose_detector.LEAST_SCORE", 0.0)  # of random weights no detection is certain
    detector = load_detector(path)
    detector.model.transform.min_size, detector.model.transform.max_size = (96,), 96
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    theirs = keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None, min_size=96, max_size=96)
    theirs.load_state_dict(network, strict=False)
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 0.0  # as of its weights for COCO
    with torch.inference_mode():
        (expected,) = theirs.eval()([torch.from_numpy(image).permute(2, 0, 1) / 255])
    persons = detector.persons(image)
    assert len(persons) == len(expected["keypoints"]) > 0
    np.testing.assert_allclose(np.stack(persons), expected["keypoints"][..., :2].numpy(), atol=1e-3)
    assert all(np.array_equal(one, other) for one, other in zip(persons, detector.persons(image), strict=True))


@pytest.mark.parametrize(("change", "words"), [
    (lambda net: {name: one for name, one in net.items() if name != "backbone.body.conv1.weight"},
     "'backbone.body.conv1.weight' is missing"),
    (lambda net: {**net, "extra.weight": torch.zeros(2)}, "'extra.weight' has no place"),
    (lambda net: {**net, "backbone.body.bn1.weight": torch.zeros(3)}, r"'backbone.body.bn1.weight' is \[3\], not \[64\]"),
    (lambda net: {**net, "backbone.body.bn1.weight": torch.full((64,), float("nan"))}, "NaN"),
    (lambda net: {**net, "backbone.body.bn1.weight": torch.zeros(64, dtype=torch.int32)}, "I32, not floating-point"),
], ids=["missing", "extra", "misshapen", "NaN", "integers"])
def test_other_weights_are_refused_with_their_file_and_key(change: Any, words: str, network: dict[str, torch.Tensor],
                                                           tmp_path: Path) -> None:
    torch.save(change(network), tmp_path / "net.pth")
    with pytest.raises(ModelFileError, match=words) as refused:
        load_detector(tmp_path / "net.pth")
    assert "net.pth" in str(refused.value)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(ModelFileError):
        load_detector(tmp_path / "net.pth")
