"""The maps that images are measured against: one for all candidates, by the prompts' ids."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from harness.control.edge_map import drawn_edges
from harness.declare import Candidate, Canny, Control, Prompt, Suite
from harness.metrics import METRICS
from harness.run.clip_model import ClipModel
from harness.run.prompt_pictures import PromptPictures
from tests.fakes import tiny_grid, tiny_suite


def drawn(place: int) -> np.ndarray:
    picture = np.zeros((64, 64, 3), dtype=np.uint8)
    picture[8 * place:8 * place + 20, 10:40] = 200
    return picture


def suite(root: Path, picture: str | Canny = "edges") -> Suite:
    for place, name in enumerate("abc", 1):
        Image.fromarray(drawn(place)).save(root / f"{name}.png")
    prompts = tuple(Prompt(id=name, text=name, pictures={"edges": f"{file}.png"}) for name, file in zip(
        "abcd", "abca", strict=True))
    return tiny_suite(candidates=(Candidate(name="x", model="zoo:photo"), Candidate(
        name="y", model="zoo:photo", controls=(Control(path="net", picture=picture),))), baseline="x",
        grid=tiny_grid(prompts=prompts), metrics=("control_edges",))


def test_every_prompt_has_its_map_and_that_of_the_next_other_picture(tmp_path: Path) -> None:
    pictures = PromptPictures(suite(tmp_path), lambda file: tmp_path / file)
    for maps, places in ((pictures.control_maps("abcd"), (1, 2, 3, 1)), (pictures.other_maps("abcd"), (2, 3, 1, 2))):
        for one, place in zip(maps, places, strict=True):
            assert one is not None
            assert (one == drawn(place)).all()
    assert [len(listed) for listed in pictures.by_name("ab").values()] == [2]


def test_the_edges_of_a_picture_are_made_as_the_control_says(tmp_path: Path) -> None:
    (made,) = PromptPictures(suite(tmp_path, Canny(of="edges", low=5)), lambda file: tmp_path / file).control_maps("b")
    assert made is not None
    assert (made == drawn_edges(drawn(2), low=5)).all()


def test_without_a_control_there_are_no_maps(tmp_path: Path) -> None:
    plain = suite(tmp_path)
    pictures = PromptPictures(replace(plain, candidates=plain.candidates[:1]), lambda file: tmp_path / file)
    assert (pictures.control_maps("ab"), pictures.other_maps("ab")) == ((), ())


def test_values_are_measured_again_when_a_map_or_its_thresholds_change(tmp_path: Path) -> None:
    def setting(picture: str | Canny, content: str) -> str:
        model = ClipModel(suite(tmp_path, picture), "cpu", tmp_path, str, lambda _: None)
        return model.settings({"a.png": content})["control_edges"]

    settings = [setting("edges", "1"), setting("edges", "2"), setting(Canny(of="edges"), "1"),
                setting(Canny(of="edges", low=5), "1")]
    assert METRICS["control_edges"].uses_pictures
    assert len({*settings}) == 4
    assert setting("edges", "1") == settings[0]
