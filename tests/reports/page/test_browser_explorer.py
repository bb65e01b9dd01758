"""The explorer and the lightbox in a real browser, on a run in which every picture is another: the right one is shown, told by
its bytes, whichever way one comes to it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.records import Cell
from reports import write_page
from reports.page.thumbnails import LOSSLESS, LOSSLESS_SIDE, thumbnail
from tests.reports import pictured
from tests.reports.page.test_browser import READY, visit

pytestmark = pytest.mark.browser
SUITE = pictured.suite()
PICTURES = ".cell"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(pictured.write_run(tmp_path_factory.mktemp("pictured") / "dress", SUITE))


@pytest.fixture
def tab(browser: Any, page: Path) -> Iterator[Any]:
    """The page opened anew; whatever a test does to it, it may complain of nothing and ask for nothing."""
    opened, trouble = visit(browser, page, PICTURES, viewport={"width": 1280, "height": 900})
    yield opened
    opened.close()
    assert trouble == []


def source(page: Path, candidate: int, scale: int, prompt: int, seed: int) -> str:
    """The address a cell's picture must have on the page: the bytes of its own file, all of them kept."""
    cell = Cell(prompt=f"p{prompt:03d}", seed=seed, guidance=SUITE.grid.guidance_scales[scale])
    return thumbnail(page.parent, pictured.path_of(SUITE.candidates[candidate].name, cell), LOSSLESS_SIDE, LOSSLESS)


def shown(tab: Any, row: int, column: int) -> str:
    return str(tab.locator(f".cell[data-row='{row}'][data-column='{column}'] img").get_attribute("src"))


def test_rows_are_candidates_columns_are_scales_and_the_page_is_the_first_prompt(tab: Any, page: Path) -> None:
    assert [[shown(tab, c, g) for g in range(3)] for c in range(3)] == [[source(page, c, g, 0, 1) for g in range(3)]
                                                                       for c in range(3)]


def test_turning_the_page_shows_the_next_prompt_and_back_the_last(tab: Any, page: Path) -> None:
    tab.get_by_label("Next prompt").click()
    assert shown(tab, 1, 2) == source(page, 1, 2, 1, 1)
    for _ in range(2):
        tab.get_by_label("Previous prompt").click()
    assert shown(tab, 1, 2) == source(page, 1, 2, 10, 1)


def test_any_dimension_can_be_rows_columns_or_pages(tab: Any, page: Path) -> None:
    tab.locator("#explorer-rows").select_option(label="prompt")
    tab.locator("#explorer-columns").select_option(label="seed")
    tab.locator("#explorer-page").select_option(label="CFG")
    tab.locator("#explorer-fixed-1").select_option(label="CFG 1.5")
    tab.locator("#explorer-fixed-0").select_option(label="alpha 1")
    tab.get_by_label("Next CFG").click()
    assert shown(tab, 1, 1) == source(page, 2, 1, 1, 2)


def test_choosing_for_rows_what_the_columns_are_swaps_them(tab: Any, page: Path) -> None:
    tab.locator("#explorer-rows").select_option(label="CFG")
    assert tab.locator("#explorer-columns option:checked").text_content() == "alpha"
    assert shown(tab, 2, 0) == source(page, 0, 2, 0, 1)


def test_a_pair_of_dimensions_lies_along_one_side(tab: Any, page: Path) -> None:
    tab.locator("#explorer-columns").select_option(label="alpha and CFG")
    assert tab.locator("#explorer-rows option:checked").text_content() != "alpha"
    tab.locator("#explorer-rows").select_option(label="prompt and seed")
    assert shown(tab, 3, 5) == source(page, 1, 2, 1, 2)


def test_a_click_opens_the_picture_with_values_command_and_a_link_that_leads_to_its_file(tab: Any, page: Path) -> None:
    tab.locator(".cell[data-row='2'][data-column='1']").click()
    assert tab.locator("#viewer-first").get_attribute("src") == source(page, 2, 1, 0, 1)
    assert tab.locator("#viewer-command").text_content() == (
        "pytest 'suites/dress.py::candidate[alpha=1]' --benchmark --runs-dir remade --exact")
    assert "CLIP score" in tab.locator("#viewer-values").text_content()
    link = tab.locator("#viewer-full a").first.get_attribute("href")
    assert not link.startswith(("/", "file:", "http"))
    assert (page.parent / link.replace("%3D", "=")).is_file()


def test_the_other_picture_is_any_candidate_at_any_scale_of_the_same_prompt_and_seed(tab: Any, page: Path) -> None:
    tab.get_by_label("Next prompt").click()
    tab.locator(".cell[data-row='2'][data-column='1']").click()
    tab.locator("#viewer-other").select_option(index=1)
    assert tab.locator("#viewer-second").get_attribute("src") == source(page, 1, 1, 1, 1)
    tab.locator("#viewer-scale").select_option(label="CFG 1.5")
    assert tab.locator("#viewer-second").get_attribute("src") == source(page, 1, 0, 1, 1)


def visible_share(tab: Any) -> float:
    """How much of the stage's width shows this picture, by the pixels on the screen in its upper half."""
    box = tab.locator("#viewer-stage").screenshot()
    line = np.asarray(Image.open(io.BytesIO(box)).convert("RGB")).astype(int)[20]
    return float((np.abs(line - line[3]).sum(axis=1) < 24).mean())


def test_the_slider_slides_by_keys_and_by_dragging(tab: Any) -> None:
    tab.locator(".cell[data-row='2'][data-column='1']").click()
    assert visible_share(tab) == pytest.approx(0.5, abs=0.02)
    tab.locator("#viewer-slide").focus()
    for _ in range(20):
        tab.keyboard.press("ArrowRight")
    assert visible_share(tab) == pytest.approx(0.7, abs=0.02)
    box = tab.locator("#viewer-stage").bounding_box()
    tab.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 50)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 50)
    tab.mouse.up()
    assert visible_share(tab) == pytest.approx(0.25, abs=0.02)


def test_the_difference_view_is_four_times_what_the_two_files_differ_by(tab: Any, page: Path) -> None:
    tab.locator(".cell[data-row='2'][data-column='1']").click()
    tab.locator("#viewer-other").select_option(index=0)
    tab.locator("#viewer-view").select_option(label="difference")
    tab.locator("#viewer-said", has_text="at most").wait_for()
    one, two = (np.asarray(Image.open(io.BytesIO(base64.b64decode(source(page, c, 1, 0, 1).partition(",")[2]))).convert("RGB"))
                .astype(int) for c in (2, 0))
    apart = abs(one - two)
    drawn = tab.evaluate("[...document.getElementById('viewer-difference').getContext('2d').getImageData(0, 0, 32, 32).data]")
    assert np.array_equal(np.array(drawn).reshape(32, 32, 4)[..., :3], np.minimum(255, 4 * apart))
    assert f"at most {apart.max()} of 255 levels, {apart.mean():.2f} on average." in tab.locator("#viewer-said").text_content()


def test_the_whole_way_can_be_gone_with_the_keyboard(tab: Any, page: Path) -> None:
    tab.locator("#explorer-size").focus()
    while tab.evaluate("document.activeElement.getAttribute('role')") != "gridcell":
        tab.keyboard.press("Tab")
    for key in ("Home", "ArrowDown", "ArrowRight", "Enter"):
        tab.keyboard.press(key)
    assert tab.locator("#viewer-first").get_attribute("src") == source(page, 1, 1, 0, 1)
    for key in ("ArrowRight", "ArrowUp", "ArrowUp"):
        tab.keyboard.press(key)
    assert tab.locator("#viewer-first").get_attribute("src") == source(page, 0, 2, 0, 1)
    tab.keyboard.press("Escape")
    assert not tab.locator("#viewer-dialog").is_visible()
    # The dialog is gone before its close event comes, which moves the focus.
    tab.wait_for_function("() => document.activeElement.dataset.row + ',' + document.activeElement.dataset.column === '0,2'")


def test_the_focus_stays_in_the_open_lightbox(tab: Any) -> None:
    tab.locator(".cell img").first.click()
    for _ in range(25):
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")


def heatmap_at(tab: Any, row: int, column: int) -> tuple[float, float]:
    """The middle of a cell of the heatmap on the screen."""
    tab.wait_for_selector(READY, state="attached")
    tab.locator("#figure-heatmap").scroll_into_view_if_needed()
    box = tab.locator("#figure-heatmap .plot .nsewdrag").bounding_box()
    return box["x"] + (column + 0.5) / 3 * box["width"], box["y"] + (row + 0.5) / 3 * box["height"]


@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 2), (2, 1)])
def test_hovering_over_the_heatmap_shows_the_picture_of_that_cell(tab: Any, page: Path, row: int, column: int) -> None:
    tab.get_by_label("Next prompt").click()
    tab.mouse.move(*heatmap_at(tab, row, column), steps=3)
    tab.wait_for_function("wanted => { const peek = document.getElementById('peek'); "
                          "return !peek.hidden && peek.querySelector('img').src === wanted; }",
                          arg=source(page, row, column, 1, 1))
    tab.mouse.move(5, 5)
    tab.wait_for_selector("#peek", state="hidden")


def test_a_click_on_the_heatmap_opens_the_picture_of_that_cell(tab: Any, page: Path) -> None:
    x, y = heatmap_at(tab, 2, 0)
    tab.mouse.move(x, y, steps=3)
    tab.wait_for_selector("#peek:not([hidden]) img")
    tab.mouse.click(x, y)
    tab.wait_for_selector("#viewer-dialog[open]")
    assert tab.locator("#viewer-first").get_attribute("src") == source(page, 2, 0, 0, 1)


def test_prompts_stand_in_the_lightbox_in_full_and_as_text(tab: Any) -> None:
    tab.locator("#explorer-rows").select_option(label="prompt")
    tab.locator(".cell img").first.click()
    said = []
    for _ in range(11):
        said.append(tab.locator("#viewer-prompt").text_content())
        tab.keyboard.press("ArrowDown")
    assert said[0] == f"{pictured.TEXTS[0]} 0"
    assert len(said[7]) > 10_000
    assert "\\x1b[31mred" in said[2]
    assert "\\x202e" in said[3]
    assert tab.evaluate("document.documentElement.scrollWidth") == 1280


def test_ten_thousand_cells_are_a_few_hundred_elements_wherever_one_scrolls(browser: Any, tmp_path: Path) -> None:
    suite = pictured.suite(candidates=10, scales=5, prompts=100, seeds=2)
    page = write_page(pictured.write_run(tmp_path / "dress", suite, lambda number, cell: cell.prompt < "p003" or
                                         (number == 9 and cell.guidance == 9.5)))
    tab, trouble = visit(browser, page, PICTURES, viewport={"width": 1280, "height": 900})
    tab.locator("#explorer-columns").select_option(label="alpha and CFG")
    tab.locator("#explorer-rows").select_option(label="prompt and seed")
    assert tab.locator("#explorer-canvas").get_attribute("aria-rowcount") == "201"
    assert tab.locator("#explorer-canvas *").count() < 600
    tab.locator(".cell").first.focus()
    for key in (*["PageDown"] * 20, "Control+End", "PageUp", "PageDown"):
        tab.keyboard.press(key)
    last = tab.locator(".cell[data-row='199'][data-column='49']")
    assert last.locator("img").get_attribute("alt").startswith("alpha 1, CFG 9.5, seed 2")
    assert tab.locator(".cell[data-row='199'][data-column='48'] .hole").text_content() == "not sampled"
    assert tab.evaluate("document.activeElement.dataset.row") == "199"
    assert tab.locator("#explorer-canvas *").count() < 600
    assert trouble == []
    tab.close()


def test_pictures_left_out_are_said_and_linked(browser: Any, page: Path, tmp_path: Path) -> None:
    folder = pictured.write_run(tmp_path / "dress", SUITE)
    size = page.stat().st_size / 1e6
    small = write_page(folder, budget=size - 0.006)
    assert small.stat().st_size <= 1e6 * size - 6_000
    tab, trouble = visit(browser, small, PICTURES, viewport={"width": 1280, "height": 900})
    assert "pictures are left out" in tab.locator("#explorer-notes").text_content()
    tab.locator("#explorer-rows").select_option(label="seed")
    tab.get_by_label("Previous prompt").click()
    hole = tab.locator(".cell[data-row='1'][data-column='0']")
    assert hole.text_content() == "left out of this page"
    hole.click()
    assert "not on this page" in tab.locator("#viewer-said").text_content()
    assert (folder / tab.locator("#viewer-full a").first.get_attribute("href").replace("%3D", "=")).is_file()
    assert trouble == []
    tab.close()
