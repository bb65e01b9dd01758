"""Post-steps are checked before any image."""

from pathlib import Path

import pytest
from PIL import Image

from harness.check import problems
from harness.check.post import post_problems
from harness.declare import ColourTransfer, Lut, PostStep, Temperature, Upscale
from tests.fakes import plain_candidate, tiny_suite
from tests.post.test_luts import cube, grid


@pytest.mark.parametrize(("step", "named"), [
    (ColourTransfer("neon.png", method="reinhart"), "'reinhard'"),
    (ColourTransfer("neon.png", strength=0), "strength"),
    (ColourTransfer("nowhere.png"), "'nowhere.png'"),
    (ColourTransfer("night.cube"), "not a PNG"),
    (ColourTransfer("first stage"), "no stage comes before"),
    (Lut("nowhere.cube"), "'nowhere.cube'"),
    (Lut("neon.png"), "is a picture"),
    (Lut("night.cube", strength=1.5), "strength"),
    (Temperature(max_kelvin=3000), "4000"),
    (Temperature(max_kelvin=float("nan")), "max_kelvin"),
    (Upscale(factor=1), "changes nothing"),
    (Upscale(factor=0), "factor"),
    (Upscale(factor=2, method="lanzcos"), "'lanczos'"),
])
def test_a_step_that_cannot_be_done_is_refused_by_its_place(tmp_path: Path, step: PostStep, named: str) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "neon.png")
    cube(tmp_path, "LUT_3D_SIZE 2", grid(2))
    (phrase,) = post_problems((Temperature(max_kelvin=6500), step), tmp_path, stages=1)
    assert named in phrase
    assert phrase.startswith("post-step 2, ")


def test_pictures_that_become_too_large_are_refused(tmp_path: Path) -> None:
    enlarged = plain_candidate(post=(Upscale(factor=8), Upscale(factor=8), Upscale(factor=8)))
    refusals = problems(tiny_suite(candidates=(enlarged,), baseline="photo"), tmp_path)
    assert any("at most 16384 a side" in refusal for refusal in refusals)


def test_steps_that_can_be_done_are_accepted(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "neon.png")
    cube(tmp_path, "LUT_3D_SIZE 2", grid(2))
    steps = (ColourTransfer("neon.png", method="histogram"), ColourTransfer("first stage"), Lut("night.cube"), Upscale(factor=2))
    assert list(post_problems(steps, tmp_path, stages=2)) == []
