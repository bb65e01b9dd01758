"""What images were made of stands beside them: in order, each with its own bytes, and what is missing with its reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from PIL import Image

from harness.declare import Candidate, Suite
from harness.declare.picture_uses import PICTURES, input_path
from harness.records import Intermediate, Journal, Record, Sample
from reports import load_run, recommend, write_page
from reports.page.explorer import explorer
from reports.page.made_of import NO_INPUT, NOT_KEPT
from reports.page.thumbnails import LOSSLESS, LOSSLESS_SIDE, thumbnail
from reports.read.run import Run
from tests.reports import synthetic
from tests.reports.page.test_browser import visit
from tests.reports.synthetic_schemes import suite


def painted(folder: Path, path: str) -> bytes:
    """A picture whose colour its path decides, written into the folder."""
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    colour = np.frombuffer(hashlib.sha256(path.encode()).digest()[:3], dtype=np.uint8)
    Image.fromarray(np.broadcast_to(colour, (32, 32, 3)).copy()).save(folder / path)
    return (folder / path).read_bytes()


def write_run(folder: Path, of: Suite) -> Path:
    """A run whose pictures of prompts are in its folder, but for the faces of one prompt, and whose images have what they were
    made of, but for those of one prompt."""
    contents = {}
    for prompt in of.grid.prompts:
        for name, file in prompt.pictures.items():
            data = painted(folder, f"drawn/{name}-{prompt.id}.png")
            contents[file] = blake3(data).hexdigest()
            if (name, prompt.id) != ("face", "p01"):
                kept = folder / input_path(file, contents[file])
                kept.parent.mkdir(exist_ok=True)
                kept.write_bytes(data)
    synthetic.write_run(folder, of, **{PICTURES: contents})
    records, _ = Journal(folder / "journal.jsonl").read()
    Journal(folder / "journal.jsonl").add(beside(folder, of, records))
    return folder


def beside(folder: Path, of: Suite, records: list[Record]) -> Iterator[Intermediate]:
    declared = {c.name: c for c in of.candidates}
    for sample in (r for r in records if isinstance(r, Sample) and r.cell.prompt != "p02"):
        candidate: Candidate = declared[sample.candidate]
        for name in [*(f"stage {n}" for n, _ in enumerate(candidate.stages, 1)), *(["raw"] if candidate.post else [])]:
            path = f"images/{candidate.name}-{sample.cell.prompt}-{name.replace(' ', '-')}.png"
            yield Intermediate(candidate=candidate.name, cell=sample.cell, sample=sample.key, name=name, key=name, path=path,
                               sha256=hashlib.sha256(painted(folder, path)).hexdigest())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("made") / "run", suite())


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return load_run(folder)


def parts(run: Run, candidate: str, prompt: str) -> list[tuple[str, str]]:
    """Caption and path, or why there is none, of what an image was made of."""
    shown = explorer(run, recommend(run))
    image = run.images.query("candidate == @candidate and prompt == @prompt")["path"].iloc[0]
    slot = shown.paths.index(str(image))
    made = shown.data["made"]
    return [(made["names"][name], shown.paths[at] if at >= 0 else made["reasons"][why[0]])
            for name, at, *why in made["of"][slot]]


def test_an_image_of_two_stages_and_post_steps_has_both_beside_it(run: Run) -> None:
    assert parts(run, "graded", "p00") == [("stage 1", "images/graded-p00-stage-1.png"),
                                           ("before post-steps", "images/graded-p00-raw.png")]


def test_control_and_reference_pictures_are_those_of_the_prompt(run: Run) -> None:
    drawn = blake3((run.folder / "drawn/edges-p03.png").read_bytes()).hexdigest()
    control, reference = parts(run, "edges", "p03")
    assert control == ("control 'edges'", input_path("edges.png", drawn))
    assert reference[0] == "reference 'face'"


def test_what_is_missing_has_its_reason(run: Run) -> None:
    assert parts(run, "edges", "p01")[1] == ("reference 'face'", NO_INPUT)
    assert parts(run, "night", "p02") == [("stage 1", NOT_KEPT)]


def test_an_input_that_was_altered_is_missing(folder: Path, tmp_path: Path) -> None:
    copy = write_run(tmp_path / "run", suite())
    for kept in (copy / "inputs").iterdir():
        kept.write_bytes((copy / "drawn/face-p00.png").read_bytes() + b"x")
    assert {why for _, why in parts(load_run(copy), "edges", "p00")} == {NO_INPUT}


def test_paths_out_of_the_run_folder_are_not_followed(tmp_path: Path) -> None:
    copy = write_run(tmp_path / "run", suite())
    head = json.loads((copy / "run.json").read_text())
    head[PICTURES] = dict.fromkeys(head[PICTURES], "../../" + "a" * 58)
    (copy / "run.json").write_text(json.dumps(head))
    load_run(copy)
    head[PICTURES] = {"maps/p00.png": 7}
    (copy / "run.json").write_text(json.dumps(head))
    with pytest.raises(ValueError, match="pictures"):
        load_run(copy)


def test_a_run_of_single_models_has_nothing_beside_its_images(merge_run: Run) -> None:
    assert explorer(merge_run, recommend(merge_run)).data["made"] == {}


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_lightbox_and_the_explorer_show_what_a_picture_was_made_of(browser: Any, folder: Path, width: int) -> None:
    tab, trouble = visit(browser, write_page(folder), ".cell", viewport={"width": width, "height": 844})
    tab.locator("#explorer-rows").select_option(label="candidate")
    tab.locator("#explorer-part").select_option(label="stage 1")
    first = thumbnail(folder, "images/graded-p00-stage-1.png", LOSSLESS_SIDE, LOSSLESS)
    tab.locator("#explorer-size").fill("48")
    cell = tab.locator("[role=row]", has=tab.locator("[role=rowheader]", has_text="graded")).locator(".cell").first
    assert cell.locator("img").get_attribute("src") == first
    assert tab.locator(".cell .hole", has_text="none").count() > 0
    cell.click()
    for key in ("Escape", "Enter"):  # the focus is back in the cell, which the keyboard opens
        tab.keyboard.press(key)
    items = tab.locator("#viewer-made li")
    assert [item.inner_text().strip() for item in items.all()] == ["stage 1", "before post-steps", "this picture"]
    assert items.first.locator("img").get_attribute("src") == first
    tab.locator("#viewer-made a").first.focus()
    assert tab.evaluate("document.activeElement.getAttribute('href')") == "images/graded-p00-stage-1.png"
    assert tab.evaluate("document.querySelector('#viewer-dialog').scrollWidth <= innerWidth")
    tab.locator("#viewer-other").select_option(label="edges")
    assert [item.inner_text().strip() for item in tab.locator("#viewer-others li").all()] == [
        "control 'edges'", "reference 'face'", "this picture"]
    assert trouble == []
    tab.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_explorer_can_show_every_picture_of_a_cell_side_by_side(browser: Any, folder: Path, scheme: str) -> None:
    tab, trouble = visit(browser, write_page(folder), ".cell", viewport={"width": 390, "height": 844}, color_scheme=scheme)
    tab.locator("#explorer-rows").select_option(label="candidate")
    tab.locator("#explorer-part").select_option(label="all, side by side")
    cell = tab.locator("[role=row]", has=tab.locator("[role=rowheader]", has_text="graded")).locator(".cell").first
    alts = [image.get_attribute("alt") for image in cell.locator("img").all()]
    assert [alt.split(" of ")[0] for alt in alts] == ["stage 1", "before post-steps", "this picture"]
    boxes = [image.bounding_box() for image in cell.locator("img").all()]
    frame = cell.bounding_box()
    assert all(frame["x"] - 1 <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"] + 1 and
               box["y"] + box["height"] <= frame["y"] + frame["height"] + 1 for box in boxes)
    assert len({(round(box["x"]), round(box["y"])) for box in boxes}) == 3
    assert trouble == []
    tab.close()
