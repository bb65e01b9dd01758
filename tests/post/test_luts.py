"""Look-up tables: the reader of .cube files, and their use."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from harness.post.cube import CubeError, read_cube
from harness.post.lut import through_lut
from tests.post.pictures import noise


def cube(folder: Path, head: str, rows: list[tuple[float, ...]]) -> Path:
    path = folder / "night.cube"
    path.write_text(head + "\n" + "\n".join(" ".join(map(str, row)) for row in rows) + "\n")
    return path


def grid(size: int, low: float = 0.0, high: float = 1.0) -> list[tuple[float, ...]]:
    """The identity table over a domain: red changes fastest."""
    steps = np.linspace(low, high, size)
    return [(r, g, b) for b in steps for g in steps for r in steps]


@pytest.mark.parametrize("size", [2, 17, 66])
def test_the_identity_changes_no_bit(tmp_path: Path, size: int) -> None:
    assert (through_lut(noise(1), read_cube(cube(tmp_path, f"LUT_3D_SIZE {size}", grid(size))), 1.0) == noise(1)).all()


def test_the_identity_over_a_wider_domain_changes_no_bit(tmp_path: Path) -> None:
    table = read_cube(cube(tmp_path, "DOMAIN_MAX 2 2 2\nLUT_3D_SIZE 5", grid(5, 0, 2)))
    assert (through_lut(noise(1), table, 1.0) == noise(1)).all()


def test_inputs_outside_of_the_domain_count_as_its_ends(tmp_path: Path) -> None:
    table = read_cube(cube(tmp_path, "LUT_3D_SIZE 2\nLUT_3D_INPUT_RANGE 0.25 0.5", grid(2)))
    levels = np.array([[[0, 51, 255]]], np.uint8)
    assert through_lut(levels, table, 1.0).tolist() == [[[0, 0, 255]]]


def test_red_changes_fastest(tmp_path: Path) -> None:
    rows = [(0.0, 0.0, 0.0)] * 8
    rows[1] = (0.0, 1.0, 0.0)
    red = np.array([[[255, 0, 0]]], np.uint8)
    assert through_lut(red, read_cube(cube(tmp_path, "LUT_3D_SIZE 2", rows)), 1.0).tolist() == [[[0, 255, 0]]]


def test_a_table_equals_pillows_to_a_level(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((33 ** 3, 3)).round(4)
    table = read_cube(cube(tmp_path, "TITLE \"a # in it\"\nLUT_3D_SIZE 33", [tuple(row) for row in values.tolist()]))
    theirs = Image.fromarray(noise(3, size=64)).filter(ImageFilter.Color3DLUT(33, [*values.ravel().tolist()]))
    assert np.abs(through_lut(noise(3, size=64), table, 1.0).astype(int) - np.asarray(theirs)).max() <= 1


def test_a_table_of_one_dimension_is_looked_up_channel_by_channel(tmp_path: Path) -> None:
    table = read_cube(cube(tmp_path, "LUT_1D_SIZE 3", [(0, 1, 0), (0.5, 0.5, 1), (1, 0, 0)]))
    assert through_lut(np.array([[[255, 255, 51]]], np.uint8), table, 1.0).tolist() == [[[255, 0, 102]]]


def test_half_strength_is_half_way(tmp_path: Path) -> None:
    black = read_cube(cube(tmp_path, "LUT_3D_SIZE 2", [(0, 0, 0)] * 8))
    assert through_lut(np.array([[[200, 100, 50]]], np.uint8), black, 0.5).tolist() == [[[100, 50, 25]]]


@pytest.mark.parametrize(("head", "rows", "named"), [
    ("LUT_3D_SIZE 2", grid(2)[:7], "7 colours"),
    ("LUT_3D_SIZE 2", [*grid(2), (0, 0, 0)], "more colours"),
    ("LUT_3D_SIZE 2", [*grid(2)[:7], (0, 0, float("nan"))], "finite"),
    ("LUT_3D_SIZE 2", [*grid(2)[:7], (0, 0)], "line 9"),
    ("LUT_3D_SIZE 2000", [], "2000"),
    ("LUT_3D_SIZE 2\nLUT_1D_SIZE 2", [], "second table"),
    ("SHAPER 2", [], "'SHAPER'"),
    ("", grid(2), "LUT_3D_SIZE"),
    ("", [], "LUT_3D_SIZE"),
    ("LUT_3D_SIZE 2\nDOMAIN_MIN 1 1 1", grid(2), "DOMAIN_MIN"),
    ("LUT_3D_SIZE 2\nLUT_IN_VIDEO_RANGE", grid(2), "full range"),
])
def test_a_file_that_is_no_whole_table_is_refused(tmp_path: Path, head: str, rows: list[tuple[float, ...]], named: str) -> None:
    with pytest.raises(CubeError, match=r"night\.cube") as error:
        read_cube(cube(tmp_path, head, rows))
    assert named in str(error.value)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_picture_that_is_given_as_a_table_is_named_as_one(tmp_path: Path, form: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "lut.png", form)
    with pytest.raises(CubeError, match=rf"lut\.png: this is a {form} picture, and a Lut reads \.cube"):
        read_cube(tmp_path / "lut.png")
