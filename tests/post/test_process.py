"""Post-steps one after the other, with their files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.declare import ColourTransfer, Lut, PostStep, Temperature, Upscale
from harness.declare.picture_file import PictureError
from harness.post import PostError, PostProcess, process_of, size_after
from tests.post.pictures import noise
from tests.post.test_luts import cube, grid


def process(folder: Path, *steps: PostStep) -> PostProcess:
    return process_of(steps, lambda name: folder / name, lambda name: (folder / name).read_bytes().hex())


def test_steps_are_done_in_order(tmp_path: Path) -> None:
    cube(tmp_path, "LUT_3D_SIZE 2", [(1, 1, 1)] * 8)
    Image.fromarray(noise(2)).save(tmp_path / "neon.png")
    image, notes = process(tmp_path, ColourTransfer("neon.png"), Upscale(factor=1.5), Lut("night.cube")).apply(noise(1))
    assert image.shape == (24, 24, 3)
    assert (image == 255).all()
    assert notes == ()


def test_the_size_is_known_before() -> None:
    assert size_after((Temperature(max_kelvin=6500), Upscale(factor=2), Upscale(factor=0.5)), (64, 48)) == (64, 48)


def test_the_identity_follows_the_contents_and_not_the_names(tmp_path: Path) -> None:
    first = process(tmp_path, Lut(cube(tmp_path, "LUT_3D_SIZE 2", grid(2)).name)).identity
    (tmp_path / "night.cube").rename(tmp_path / "day.cube")
    assert process(tmp_path, Lut("day.cube")).identity == first
    assert process(tmp_path, Lut("day.cube", strength=0.5)).identity != first
    cube(tmp_path, "LUT_3D_SIZE 3", grid(3))
    assert process(tmp_path, Lut("night.cube")).identity != first


def test_the_first_stage_gives_the_colours(tmp_path: Path) -> None:
    transfer = process(tmp_path, ColourTransfer("first stage"))
    assert (transfer.apply(noise(1), noise(1))[0] == noise(1)).all()
    with pytest.raises(PostError, match="one stage"):
        transfer.apply(noise(1))


def test_a_note_names_its_step(tmp_path: Path) -> None:
    blue = np.full((4, 4, 3), (0, 60, 255), np.uint8)
    assert process(tmp_path, Temperature(max_kelvin=6500)).apply(blue)[1][0].startswith("Temperature: left as it is")


@pytest.mark.parametrize("picture", [Image.new("RGBA", (4, 4)), Image.new("I;16", (4, 4))])
def test_a_picture_with_other_pixels_is_refused(tmp_path: Path, picture: Image.Image) -> None:
    picture.save(tmp_path / "neon.png")
    with pytest.raises(PictureError, match=r"neon\.png"):
        process(tmp_path, ColourTransfer("neon.png"))


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "neon.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with pytest.raises(PictureError, match=r"neon\.png"):
        process(tmp_path, ColourTransfer("neon.png"))
