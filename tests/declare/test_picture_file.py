"""Pictures that are given to a run: what is read, and what is refused with the reason."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.declare import Candidate, Canny, Control, Inpaint, Prompt, Reference, Stage
from harness.declare.guiding import STAGE_BEFORE
from harness.declare.picture_file import PictureError, read_picture, size_of_picture
from harness.declare.picture_uses import names_of, with_pictures


def pixels(mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (6, 10, 3), dtype=np.uint8)).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_rgb_and_gray_are_read_as_rgb(mode: str, tmp_path: Path) -> None:
    pixels(mode).save(tmp_path / "p.png")
    assert size_of_picture(tmp_path / "p.png") == (10, 6)
    assert (read_picture(tmp_path / "p.png") == np.asarray(pixels(mode).convert("RGB"))).all()


@pytest.mark.parametrize(("name", "write", "word"), [
    ("a.png", lambda path: pixels("RGBA").save(path), "without transparency"),
    ("la.png", lambda path: pixels("LA").save(path), "without transparency"),
    ("trns.png", lambda path: pixels("P").save(path, transparency=0), "without transparency"),
    ("deep.png", lambda path: Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(path), "8 bits"),
    ("cmyk.jpg", lambda path: pixels("CMYK").save(path), "CMYK"),
    ("frames.webp", lambda path: pixels().save(path, save_all=True, append_images=[pixels("L").convert("RGB")]), "frames"),
    ("text.png", lambda path: path.write_text("a picture"), "not a PNG"),
    ("tiff.png", lambda path: pixels().save(path, "TIFF"), "not a PNG"),
])
def test_what_is_not_a_plain_picture_is_refused(name: str, write, word: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    with pytest.raises(PictureError, match=word):
        size_of_picture(tmp_path / name)


def test_a_picture_that_ends_early_is_refused(tmp_path: Path) -> None:
    pixels().save(tmp_path / "p.png")
    data = (tmp_path / "p.png").read_bytes()
    (tmp_path / "p.png").write_bytes(data[:len(data) // 2])
    with pytest.raises(PictureError, match="cannot be read"):
        read_picture(tmp_path / "p.png")


@pytest.mark.parametrize("side", [9_000, 20_000])
def test_a_header_of_many_millions_of_pixels_is_refused_before_they_are_decoded(side: int, tmp_path: Path) -> None:
    Image.new("1", (side, side)).save(tmp_path / "p.png")
    with pytest.raises(PictureError, match=r"64,000,000|exceeds limit"):
        size_of_picture(tmp_path / "p.png")


def test_a_turned_photograph_has_the_size_that_is_shown(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels().save(tmp_path / "p.jpg", exif=exif)
    assert size_of_picture(tmp_path / "p.jpg") == (6, 10)
    assert read_picture(tmp_path / "p.jpg").shape == (10, 6, 3)


def test_pictures_of_a_folder_are_found_by_the_prompts_ids(tmp_path: Path) -> None:
    pixels().save(tmp_path / "cat.png")
    pixels().save(tmp_path / "dog.jpg")
    cat, dog = with_pictures([Prompt(id="cat", text="a", pictures={"face": "f.png"}), Prompt(id="dog", text="b")], "edges",
                             tmp_path)
    assert cat.pictures == {"face": "f.png", "edges": f"{tmp_path.as_posix()}/cat.png"}
    assert dog.pictures["edges"].endswith("dog.jpg")


def test_prompts_without_a_picture_and_with_two_are_named(tmp_path: Path) -> None:
    pixels().save(tmp_path / "cat.png")
    with pytest.raises(ValueError, match="'dog'"):
        with_pictures([Prompt(id="cat", text="a"), Prompt(id="dog", text="b")], "edges", tmp_path)
    pixels().save(tmp_path / "cat.jpg")
    with pytest.raises(ValueError, match=r"cat\.png.*cat\.jpg"):
        with_pictures([Prompt(id="cat", text="a")], "edges", tmp_path)


def test_the_pictures_that_a_candidate_uses_are_those_of_all_its_stages() -> None:
    candidate = Candidate(
        name="x", model="m", controls=(Control(path="c", picture="edges"), Control(path="c", picture=Canny(of="photo"))),
        references=(Reference(path="r", picture="face"),), inpaint=Inpaint(picture="photo", mask="hole"),
        stages=(Stage(strength=0.5, controls=(Control(path="c", picture="pose"), Control(path="c", picture=STAGE_BEFORE))),))
    assert names_of(candidate) == ("edges", "photo", "face", "hole", "pose")
