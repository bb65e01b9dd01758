"""Thumbnails: what is kept, what is compressed or left out within a budget, and what is not read at all."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reports.page.thumbnails import LOSSLESS, PREFIX, Files, thumbnail, thumbnails


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty pictures of 96 pixels with structure in them."""
    made = tmp_path / "run"
    (made / "images").mkdir(parents=True)
    yy, xx = np.mgrid[0:96, 0:96]
    for i in range(20):
        rng = np.random.default_rng(i)
        data = 120 + 60 * np.sin(xx / (3 + i))[..., None] + 30 * np.cos(yy / 7)[..., None] + rng.normal(0, 12, (96, 96, 3))
        Image.fromarray(np.clip(data, 0, 255).astype(np.uint8)).save(made / "images" / f"{i}.png")
    return made


PATHS = [f"images/{i}.png" for i in range(20)]


def opened(encoded: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def test_with_room_enough_every_bit_is_kept(folder: Path) -> None:
    made = thumbnails(folder, PATHS, 10_000_000)
    assert (made.lossless, made.notes, made.why) == (True, (), {})
    for path, encoded in zip(PATHS, made.encoded, strict=True):
        assert np.array_equal(np.asarray(opened(encoded).convert("RGB")), np.asarray(Image.open(folder / path)))


@pytest.mark.parametrize("budget", [400_000, 120_000, 60_000, 20_000, 5_000, 1_000, 0, -5])
def test_the_budget_is_never_exceeded(folder: Path, budget: int) -> None:
    made = thumbnails(folder, PATHS, budget)
    assert sum(len(one) + 3 for one in made.encoded if one) <= max(budget, 0)
    assert len(made.encoded) == len(PATHS)


def test_pictures_are_compressed_before_any_is_left_out(folder: Path) -> None:
    whole = sum(len(one) + 3 for one in thumbnails(folder, PATHS, 10_000_000).encoded)
    made = thumbnails(folder, PATHS, whole // 3)
    assert all(made.encoded)
    assert not made.lossless
    assert "WebP quality" in made.notes[0]


def test_what_does_not_fit_is_left_out_from_the_end_and_counted(folder: Path) -> None:
    made = thumbnails(folder, PATHS, 4_000)
    kept = sum(map(bool, made.encoded))
    assert 0 < kept < 20
    assert all(made.encoded[:kept])
    assert f"{20 - kept} of 20 pictures are left out" in made.notes[-1]
    assert "images folder beside this page" in made.notes[-1]


def test_large_pictures_are_scaled_down_and_keep_their_shape(tmp_path: Path) -> None:
    Image.new("RGB", (1200, 600), "teal").save(tmp_path / "wide.png")
    assert opened(thumbnail(tmp_path, "wide.png", 256, 80).removeprefix(PREFIX)).size == (256, 128)


def test_small_pictures_are_not_blown_up(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "teal").save(tmp_path / "small.png")
    assert opened(thumbnail(tmp_path, "small.png", 256, LOSSLESS).removeprefix(PREFIX)).size == (8, 8)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/passwd", "images/../../secret.png", "", ".", "images/.."])
def test_a_path_out_of_the_run_folder_is_not_read(folder: Path, path: str) -> None:
    Image.new("RGB", (4, 4)).save(folder.parent / "secret.png")
    with pytest.raises(ValueError, match=r"leads out|could not be read"):
        thumbnail(folder, path, 32, 80)


def test_a_link_out_of_the_run_folder_is_not_followed(folder: Path) -> None:
    Image.new("RGB", (4, 4)).save(folder.parent / "secret.png")
    (folder / "images" / "link.png").symlink_to(folder.parent / "secret.png")
    (folder / "beyond").symlink_to(folder.parent)
    files = Files(folder)
    for path in ("images/link.png", "beyond/secret.png"):
        with pytest.raises(ValueError, match="out of the run folder"):
            files.find(path)


@pytest.mark.parametrize("path", ["images/\0.png", "ima\0ges/1.png"])
def test_a_path_that_no_system_takes_is_an_error_with_its_reason(folder: Path, path: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be followed|could not be read"):
        thumbnail(folder, path, 32, 80)


def test_an_image_that_cannot_be_read_leaves_a_reason_and_the_others(folder: Path) -> None:
    (folder / PATHS[3]).write_bytes(b"not a picture")
    made = thumbnails(folder, PATHS, 10_000_000)
    assert list(made.why) == [3]
    assert "could not be read" in made.why[3]
    assert sum(map(bool, made.encoded)) == 19


def test_a_picture_larger_than_any_model_makes_is_not_decoded(tmp_path: Path) -> None:
    Image.new("1", (9000, 8000)).save(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match="72000000 pixels"):
        thumbnail(tmp_path, "bomb.png", 32, 80)
