"""The page in a real browser, from disk and without a network: no error, no request, and its controls work."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports import judge, write_page
from reports.page.build import render
from reports.read.run import Run
from reports.verdict.recommendation import Recommendation
from tests.browser import new_tab
from tests.reports import synthetic
from tests.reports.synthetic_costs import on_gpu

pytestmark = pytest.mark.browser
READY = "html[data-ready]"


def visit(browser: Any, page: Path, until: str = READY, **how: Any) -> tuple[Any, list[str]]:
    """The opened page, and what it complained of or asked for beside its own file; it is ready when its figures are drawn."""
    tab, trouble = new_tab(browser, page, **how)
    tab.wait_for_selector(until, state="attached")
    return tab, trouble


def test_the_page_opens_without_an_error_and_without_a_request(browser: Any, merge_page: Path) -> None:
    tab, trouble = visit(browser, merge_page)
    assert tab.locator(".plot .main-svg").count() >= 6
    assert trouble == []
    tab.close()


def test_the_pick_is_starred_in_the_heatmap_and_framed_in_the_grid(browser: Any, merge_page: Path) -> None:
    tab, _ = visit(browser, merge_page)
    assert tab.locator("#figure-heatmap .scatterlayer .points path").count() == 1
    assert tab.locator(".cell.pick img").get_attribute("alt").startswith("alpha 0.45, CFG")
    tab.close()


def test_what_the_pick_is_against_its_controls_is_in_view_on_a_phone(browser: Any, merge_page: Path) -> None:
    tab, _ = visit(browser, merge_page, viewport={"width": 390, "height": 844})
    box = tab.get_by_role("columnheader", name="The pick is").first.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 390
    tab.close()


def test_the_numbers_of_the_heatmap_are_black_or_white(browser: Any, merge_page: Path) -> None:
    tab, _ = visit(browser, merge_page)
    labels = "[...document.querySelectorAll('#figure-heatmap .heatmap-label text')].map(label => getComputedStyle(label).fill)"
    assert set(tab.evaluate(labels)) == {"rgb(0, 0, 0)", "rgb(255, 255, 255)"}
    tab.close()


def test_nothing_of_a_hostile_run_acts(browser: Any, hostile_folder: Path) -> None:
    tab, trouble = visit(browser, write_page(hostile_folder))
    for _ in range(6):
        tab.get_by_label("Next prompt").click()
    assert tab.locator(".cell img").count() > 6
    assert (trouble, tab.title()) == ([], "<b>suite</b> · Sweetspot")
    tab.close()


def test_choosing_another_value_changes_the_heatmap(browser: Any, merge_page: Path) -> None:
    tab, _ = visit(browser, merge_page)
    tab.locator("#figure-heatmap select").select_option(label="Clipped pixels")
    # A wait for a script's answer would be refused by the page's policy as soon as it had to ask twice.
    tab.locator("#figure-heatmap .heatmap-label text", has_text="%").first.wait_for()
    tab.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_never_scrolls_sideways(browser: Any, merge_page: Path, width: int) -> None:
    tab, _ = visit(browser, merge_page, viewport={"width": width, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    tab.close()


def test_names_of_seventy_characters_leave_the_page_its_width(browser: Any, tmp_path: Path) -> None:
    names = [f"a_name_of_a_candidate_from_a_training_run_with_step_{i:06d}_weight_0.80" for i in range(3)]
    suite = synthetic.merge_suite(candidates=tuple(
        replace(c, name=name, axes={}) for c, name in zip(synthetic.merge_suite().candidates, names, strict=False)),
        baseline=names[0], gates=())
    tab, _ = visit(browser, write_page(synthetic.write_run(tmp_path / "run", suite)), viewport={"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    plot = tab.locator("#figure-cost .cartesianlayer .bglayer rect, #figure-cost .nsewdrag").first.bounding_box()
    assert plot["width"] > 390 / 4
    tab.close()


def test_the_costs_of_a_gpu_run_open_and_switch_without_an_error(browser: Any, merge_run: Run, merge_verdict: Recommendation,
                                                                tmp_path: Path) -> None:
    run, page = on_gpu(merge_run), tmp_path / "gpu.html"
    page.write_text(render(run, merge_verdict, judge(run, merge_verdict)), encoding="utf-8")
    tab, trouble = visit(browser, page, viewport={"width": 390, "height": 844})
    tab.locator("#figure-memory select").select_option(label="alpha 0 (parent A)")
    tab.locator("#figure-cost select").select_option(label="style switch")
    tab.locator("#figure-cost .legendtext", has_text="denoise").first.wait_for(state="detached")
    for summary in tab.locator("section[aria-labelledby=h-cost] summary").all():
        summary.click()
    assert tab.get_by_text("power cap: the software limit").first.is_visible()
    assert "refused 3.10 GiB" in tab.locator("#figure-batches").text_content()
    assert (trouble, tab.evaluate("document.documentElement.scrollWidth")) == ([], 390)
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("opened", [False, True])
def test_axe_finds_no_serious_violation(browser: Any, merge_page: Path, scheme: str, opened: bool) -> None:
    file = os.environ.get("SWEETSPOT_AXE")
    if not file:
        pytest.skip("SWEETSPOT_AXE does not name an axe.min.js (npm install axe-core)")
    tab, _ = visit(browser, merge_page, viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    tab.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
    if opened:
        tab.locator(".cell img").first.click()
    tab.evaluate(Path(file).read_text(encoding="utf-8"))
    found = tab.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    serious = [(v["id"], [n["html"][:200] for n in v["nodes"]][:5]) for v in found if v["impact"] in ("serious", "critical")]
    assert serious == []
    tab.close()


def test_a_viewer_that_blocks_scripts_says_what_is_missing(browser: Any, merge_page: Path) -> None:
    tab, trouble = new_tab(browser, merge_page)
    tab.wait_for_selector(READY, state="attached")
    assert not tab.locator(".blocked").is_visible()
    assert trouble == []
    tab.close()
    blind = browser.new_context(java_script_enabled=False).new_page()
    blind.goto(merge_page.as_uri())
    blind.locator(".blocked").wait_for(state="visible", timeout=20_000)
    assert "download the file" in blind.locator(".blocked").text_content()
    blind.context.close()
