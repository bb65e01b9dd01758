"""What the check says of controls and of the prompts' pictures: before the first image, with sizes and names, without torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.check import problems
from harness.check.suite import remarks
from harness.declare import (
    Candidate,
    Canny,
    Constraint,
    Control,
    Gate,
    Objective,
    Prompt,
    Sampling,
    Stage,
    Suite,
)
from harness.declare.guiding import STAGE_BEFORE
from harness.declare.picture_uses import beside_maps
from tests.fakes import tiny_grid, tiny_suite

NET = "net.bin"
"""Not opened by the check, as all pickles."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / NET).write_bytes(b"PK\x03\x04" + bytes(100))
    drawing(tmp_path / "cat.png")
    return tmp_path


def drawing(path: Path, size: tuple[int, int] = (64, 64), level: int = 255, mode: str = "RGB") -> None:
    picture = np.zeros((*size[::-1], 3), dtype=np.uint8)
    picture[size[1] // 2] = level
    Image.fromarray(picture).convert(mode).save(path)


def suite(*controls: Control, pictures: dict[str, str] | None = None, stages: tuple[Stage, ...] = (), **changes: object) -> Suite:
    grid = tiny_grid(prompts=(Prompt(id="cat", text="a cat", pictures={"edges": "cat.png"} if pictures is None else pictures),))
    values: dict[str, object] = {
        "candidates": (Candidate(name="x", model="zoo:photo", controls=controls, stages=stages),), "baseline": "x", "grid": grid}
    return tiny_suite(**{**values, **changes})


def control(**changes: object) -> Control:
    return Control(**{"path": NET, "picture": "edges", **changes})  # type: ignore[arg-type]


def said(root: Path, *controls: Control, **changes: object) -> str:
    return "\n".join(problems(suite(*controls, **changes), root))  # type: ignore[arg-type]


def test_a_sound_control_has_no_problem_of_its_own(root: Path) -> None:
    assert "control '" not in said(root, control(weight=0.7, end=0.5), control(picture=Canny(of="edges")))


@pytest.mark.parametrize(("change", "words", "then"), [
    ({"path": "lost.safetensors"}, "'lost.safetensors' does not exist", {}),
    ({"weight": float("nan")}, "weight is nan", {"weight": 1}),
    ({"weight": 1e6}, "weight is 1000000", {"weight": 1000}),
    ({"start": 0.5, "end": 0.5}, "start is 0.5", {"start": 0.5}),
    ({"kind": "cany"}, "did you mean 'canny'", {"kind": "canny"}),
    ({"picture": ""}, "picture is empty; name one of Prompt.pictures", {"picture": "edges"}),
    ({"picture": STAGE_BEFORE}, "first stage has none before it; name one of", {"picture": "edges"}),
    ({"picture": Canny(of="edges", low=30)}, "low is 30", {"picture": Canny(of="edges", low=12.5, high=25)}),
    ({"picture": Canny(of="edges", sigma=-1)}, "sigma is -1", {"picture": Canny(of="edges", sigma=0)}),
    ({"picture": "edgse"}, "'edgse', which 1 of 1 prompts lack", {"picture": "edges"}),
    ({"picture": "edgse"}, "did you mean 'edges'", {"picture": "edges"}),
])
def test_what_a_control_says_wrong_is_named_and_the_way_out_works(change: dict[str, object], words: str, then: dict[str, object],
                                                                  root: Path) -> None:
    assert words in said(root, control(**change))
    assert "control '" not in said(root, control(**then))


def test_one_net_for_one_picture_twice_is_refused_and_once_or_at_other_steps_is_not(root: Path) -> None:
    assert "give it once, with the sum of the weights, or for other steps" in said(root, control(), control(weight=0.5))
    assert "control '" not in said(root, control(weight=1.5))
    assert "control '" not in said(root, control(end=0.5), control(start=0.5))
    assert "control '" not in said(root, control(kind="canny"), control(kind="scribble"))


@pytest.mark.parametrize(("draw", "words"), [
    (lambda path: drawing(path, (48, 64)), "48 x 64 pixels and the images are 64 x 64"),
    (lambda path: drawing(path, mode="RGBA"), "without transparency"),
    (lambda path: path.write_text("no picture"), "not a PNG"),
    (lambda path: path.unlink(), "'cat.png' does not exist"),
])
def test_a_misfitting_picture_is_refused_with_its_prompt(draw: Callable[[Path], None], words: str, root: Path) -> None:
    draw(root / "cat.png")
    text = said(root, control())
    assert words in text
    assert "prompt 'cat'" in text


def test_a_later_stage_has_its_own_size_and_may_follow_the_stage_before(root: Path) -> None:
    stage = Stage(model="zoo:anime", strength=0.5, controls=(control(picture=Canny(of=STAGE_BEFORE)), control(path="lost.bin")))
    text = said(root, stages=(stage,))
    assert "first stage has none" not in text
    assert "stage 2: control file 'lost.bin' does not exist" in text


def test_the_metric_of_controls_needs_a_control(root: Path) -> None:
    def remarked(*controls: Control) -> bool:
        return any("no candidate has a control" in text for text in remarks(suite(*controls, metrics=("control_edges",)), root))

    assert remarked()
    assert not remarked(control())


def test_blurred_maps_and_idle_pictures_are_remarks(root: Path) -> None:
    assert not [text for text in remarks(suite(control()), root) if "picture" in text or "maps" in text]
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(root / "cat.png")
    assert any("between black and white ('cat.png'" in text for text in remarks(suite(control()), root))
    assert not any("between black" in text for text in remarks(suite(control(picture=Canny(of="edges"))), root))
    idle = suite(control(), pictures={"edges": "cat.png", "face": "cat.png"})
    assert any("'face', which no candidate uses" in text for text in remarks(idle, root))


def test_pictures_are_checked_without_torch(root: Path) -> None:
    code = ("import sys; from pathlib import Path; from harness.check.guiding import picture_problems; "
            "from tests.check.test_guiding import suite, control; "
            "print(len(list(picture_problems(suite(control()), Path(sys.argv[1])))), 'torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parents[2])
    assert done.stdout.split() == ["0", "False"]


def picture(path: Path, values: np.ndarray) -> None:
    Image.fromarray(np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)).save(path)


LINES = np.zeros((64, 64))
LINES[20:22] = 255
CANNY = Canny(of="edges")


@pytest.mark.parametrize(("values", "map_of", "words"), [
    (LINES, "edges", ""),
    (LINES, CANNY, ""),
    (LINES, Canny(of="edges", low=12.5, high=25), ""),
    (np.zeros((64, 64)), "edges", "no line ('cat.png')"),
    (np.full((64, 64), 128), "edges", "no line ('cat.png')"),
    (255 - LINES, "edges", "mostly white ('cat.png': 97%)"),
    (np.tile(np.linspace(0, 120, 64), (64, 1)), "edges", "between black and white"),
    (np.zeros((64, 64)), CANNY, "no edge in 1 of 1 pictures ('cat.png')"),
    (LINES, Canny(of="edges", low=100, high=200), "low=12.5, high=25"),
    (LINES, Canny(of="edges", low=100, high=200), "no edge in 1 of 1"),
    (LINES, Canny(of=STAGE_BEFORE, low=50, high=150), "low=6.25, high=18.75")])
def test_empty_and_wrong_maps_are_remarks(root: Path, values: np.ndarray, map_of: str | Canny, words: str) -> None:
    picture(root / "cat.png", values)
    stages = (Stage(strength=0.5, controls=(control(picture=map_of),)),)
    texts = [text for text in remarks(suite(stages=stages), root) if "map" in text or "Canny" in text]
    assert any(words in text for text in texts) if words else not texts


LARGE = (Stage(strength=0.5, sampling=Sampling(width=96, height=96)),)


@pytest.mark.parametrize(("asked", "who"), [
    ({"objective": Objective(maximise="control_f1")}, "objective"),
    ({"objective": Objective(constraints=(Constraint(metric="control_f1", at_least=0.7),))}, "objective"),
    ({"gates": (Gate(value="control_f1", at_least=0.5),)}, "gate"),
    ({"gates": (Gate(value="control_f1", at_least=0.5, candidates=("x",)),)}, "gate")])
def test_a_map_of_another_size_than_the_pictures_is_refused_where_it_is_needed(root: Path, asked: dict[str, object],
                                                                               who: str) -> None:
    metrics = ("clip_score", "control_edges")
    refusal = [text for text in problems(suite(control(), stages=LARGE, metrics=metrics, **asked), root) if "64 x 64" in text]
    assert len(refusal) == 1
    assert all(word in refusal[0] for word in (who, "control_f1", "96 x 96", "'x'"))
    assert "64 x 64" not in said(root, control(), metrics=metrics, **asked)
    assert "64 x 64" not in said(root, control(), stages=LARGE, metrics=metrics)


def test_a_map_of_another_size_that_nothing_needs_is_a_remark_and_nothing_lacks(root: Path) -> None:
    large = suite(control(), stages=LARGE, metrics=("clip_score", "control_edges"))
    assert any("64 x 64" in text and "'x'" in text for text in remarks(large, root))
    assert beside_maps(large) == {"x": (96, 96)}
    at_its_size = (replace(LARGE[0], controls=(control(picture=Canny(of=STAGE_BEFORE)),)),)
    assert beside_maps(suite(stages=at_its_size)) == {}
    assert beside_maps(suite(control(), stages=(Stage(strength=0.5),))) == {}
