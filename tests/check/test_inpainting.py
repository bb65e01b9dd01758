"""What the check says of inpaintings: their numbers, the steps that are run, and their masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness import Inpaint
from harness.check import problems
from harness.check.suite import remarks
from harness.declare import Candidate, Prompt, Sampling, Suite
from tests.fakes import tiny_grid, tiny_suite

LEVELS = {"half": (0, 255), "black": (0, 0), "white": (255, 255), "gray": (0, 200), "dark": (0, 100)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    Image.fromarray(np.full((64, 64, 3), 90, dtype=np.uint8)).save(tmp_path / "photo.png")
    Image.fromarray(np.full((32, 64), 255, dtype=np.uint8)).save(tmp_path / "flat.png")
    for name, (left, right) in LEVELS.items():
        mask = np.full((64, 64), left, dtype=np.uint8)
        mask[:, 32:] = right
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    return tmp_path


def suite(mask: str = "half", sampling: Sampling | None = None, **changes: object) -> Suite:
    inpaint = Inpaint(**{"picture": "photo", "mask": "hole", **changes})  # type: ignore[arg-type]
    prompt = Prompt(id="cat", text="a cat", pictures={"photo": "photo.png", "hole": f"{mask}.png"})
    return tiny_suite(candidates=(Candidate(name="x", model="zoo:photo", inpaint=inpaint, sampling=sampling),), baseline="x",
                      grid=tiny_grid(prompts=(prompt,), steps=10), gates=())


def said(root: Path, asked: Suite) -> str:
    return "\n".join(problems(asked, root))


def test_a_sound_inpainting_has_no_problem_and_no_remark_of_its_own(root: Path) -> None:
    assert "inpaint" not in said(root, suite())
    assert "mask" not in "\n".join(remarks(suite(), root))


@pytest.mark.parametrize(("change", "words"), [
    ({"picture": ""}, "picture is empty"),
    ({"mask": " "}, "mask is empty"),
    ({"mask": "photo"}, "picture and mask are both 'photo'"),
    ({"strength": 0}, "strength is 0"),
    ({"strength": 1.5}, "strength is 1.5"),
    ({"strength": float("nan")}, "strength is nan"),
    ({"strength": 0.05}, "strength 0.05 of 10 steps runs none of them; expected at least 0.1"),
    ({"picture": "phtoo"}, "'phtoo', which 1 of 1 prompts lack"),
])
def test_what_an_inpainting_says_wrong_is_named(change: dict[str, object], words: str, root: Path) -> None:
    if "mask" in change:
        inpaint = Inpaint(**{"picture": "photo", **change})  # type: ignore[arg-type]
        asked = suite()
        asked = tiny_suite(candidates=(Candidate(name="x", model="zoo:photo", inpaint=inpaint),), baseline="x", grid=asked.grid)
    else:
        asked = suite(**change)
    assert words in said(root, asked)
    assert "inpaint" not in said(root, suite(strength=0.1))


def test_the_steps_are_those_of_the_candidate(root: Path) -> None:
    assert "of 4 steps runs none of them" in said(root, suite(strength=0.2, sampling=Sampling(steps=4)))
    assert "inpaint" not in said(root, suite(strength=0.2, sampling=Sampling(steps=5)))


@pytest.mark.parametrize(("mask", "words"), [
    ("flat", "'flat.png', is 64 x 32 pixels and the images are 64 x 64"),
    ("black", "'black.png', is all black, so nothing would be changed"),
    ("dark", "'dark.png', is all black, so nothing would be changed"),
])
def test_a_mask_that_does_not_fit_or_changes_nothing_is_refused(mask: str, words: str, root: Path) -> None:
    assert words in said(root, suite(mask))


@pytest.mark.parametrize(("mask", "words"), [
    ("white", "is all white, so nothing of the picture is kept"), ("gray", "between black and white (50.0% of it)")])
def test_masks_that_are_odd_are_remarked_on(mask: str, words: str, root: Path) -> None:
    assert "inpaint" not in said(root, suite(mask))
    assert any(words in sentence for sentence in remarks(suite(mask), root))
