"""The page's views of axes, blocks and pairs in a real browser: they switch, download and fit, without an error or a request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.declare import Blocks, Candidate, Merge
from harness.declare.sweeps import adapter_grid, block_sweep
from reports import write_page
from tests.reports import synthetic
from tests.reports.page.test_browser import visit

pytestmark = pytest.mark.browser
PARENTS = {"a": "zoo:photo", "b": "zoo:anime"}


@pytest.fixture(scope="module")
def grid_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = adapter_grid("zoo:base", {"ink": "zoo:sketch", "detail": "zoo:detail"}, (0, 0.5, 1))
    suite = synthetic.merge_suite(candidates=made, baseline="ink=0 detail=0", gates=(),
                                  grid=replace(synthetic.SMALL, guidance_scales=(3.0, 8.0)))
    return write_page(synthetic.write_run(tmp_path_factory.mktemp("runs") / "grid", suite))


@pytest.fixture(scope="module")
def block_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = (Candidate(name="a", model=Merge(**PARENTS, alpha=0)),
            *block_sweep(Merge(**PARENTS), ["IN04", "M00", "OUT05"], [0.5, 1]),
            Candidate(name="found", model=Merge(**PARENTS, alpha=Blocks(values=[0.5] * 26))))
    suite = synthetic.merge_suite(candidates=made, baseline="a", gates=(), grid=synthetic.SMALL)
    return write_page(synthetic.write_run(tmp_path_factory.mktemp("runs") / "blocks", suite))


def test_another_pair_of_axes_changes_titles_and_places(browser: Any, grid_page: Path) -> None:
    tab, trouble = visit(browser, grid_page)
    tab.locator("#figure-plane select").select_option(label="detail × CFG: CLIP score")
    tab.locator("#figure-plane .ytitle", has_text="CFG").wait_for()
    assert tab.locator("#figure-plane .xtitle").text_content().startswith("detail, at ink")
    tab.locator("#figure-candidates select").select_option(label="detail")
    tab.locator("#figure-candidates text", has_text="detail, at ink").wait_for()
    assert trouble == []
    tab.close()


def test_the_table_is_downloaded_from_the_page_alone(browser: Any, merge_page: Path, tmp_path: Path) -> None:
    alone = tmp_path / "mailed.html"
    alone.write_bytes(merge_page.read_bytes())
    tab, _ = visit(browser, alone)
    with tab.expect_download() as waiting:
        tab.get_by_role("button", name="Download the table as CSV").click()
    assert Path(waiting.value.path()).read_bytes() == (merge_page.parent / "table.csv").read_bytes()
    assert waiting.value.suggested_filename == "dress.csv"
    assert not tab.locator("#table-beside").is_visible()
    tab.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_views_fit_and_draw_without_an_error(browser: Any, grid_page: Path, block_page: Path, quantization_run: Any,
                                                 width: int) -> None:
    precision = write_page(quantization_run.folder)
    for page, figures in ((grid_page, ["plane"]), (block_page, ["blocks", "effects"]), (precision, [])):
        tab, trouble = visit(browser, page, viewport={"width": width, "height": 844})
        assert all(tab.locator(f"#figure-{name} .main-svg").count() for name in figures)
        assert (trouble, tab.evaluate("document.documentElement.scrollWidth")) == ([], width)
        tab.close()


CUT = """heads => heads.filter(head => {
  const [box, around] = [head.getBoundingClientRect(), head.parentElement.getBoundingClientRect()];
  const words = document.createRange();
  words.selectNodeContents(head.querySelector("bdi") ?? head);
  const written = words.getBoundingClientRect();
  return written.left < box.left - 1 || written.right > box.right + 1 || box.top < around.top
    || head.scrollHeight > head.clientHeight;
}).map(head => head.textContent)"""
"""The heads whose name reaches beyond them, to a side or to the top."""


@pytest.mark.parametrize("width", [390, 1280])
def test_long_names_at_the_head_of_columns_of_pictures_stay_in_their_column(browser: Any, tmp_path: Path, width: int) -> None:
    made = synthetic.quantization_suite()
    names = ("fp32", "int8_weight_only", "int8_dynamic_activation_int8_weight", "int4_weight_only")
    suite = replace(made, gates=(), candidates=tuple(replace(one, name=name) for one, name in
                                                     zip(made.candidates, names, strict=True)))
    tab, _ = visit(browser, write_page(synthetic.write_run(tmp_path / "precision", suite)),
                   viewport={"width": width, "height": 844})
    for heads in (tab.locator(".head"), tab.locator(".strip thead th:not(:first-child)")):
        assert heads.count() >= 3
        assert heads.evaluate_all(CUT) == []
    tab.close()


@pytest.mark.parametrize("height", [600, 844, 901])
def test_the_explorer_ends_with_a_whole_row_and_says_how_many_rows_it_shows(browser: Any, quantization_run: Any,
                                                                            height: int) -> None:
    tab, _ = visit(browser, write_page(quantization_run.folder), viewport={"width": 390, "height": height})
    cut = """cells => {
      const view = document.getElementById("explorer"), end = view.getBoundingClientRect().top + view.clientHeight;
      return cells.map(cell => cell.getBoundingClientRect()).filter(at => at.top < end - 1 && at.bottom > end + 1).length;
    }"""
    assert tab.locator(".cell").evaluate_all(cut) == 0
    rows = tab.locator("#explorer-canvas").get_attribute("aria-rowcount")
    seen = tab.evaluate("[...document.querySelectorAll('.side')].filter(side => side.getBoundingClientRect().bottom <= "
                        "document.getElementById('explorer').getBoundingClientRect().bottom).length")
    assert tab.locator("#explorer-more").text_content().startswith(f"{seen} of {int(rows) - 1} rows")
    tab.close()


def test_every_mode_shows_its_pairs(browser: Any, quantization_run: Any) -> None:
    tab, _ = visit(browser, write_page(quantization_run.folder))
    assert tab.locator(".modes figure").count() == 3
    assert tab.locator(".trio img").evaluate_all("all => all.every(one => one.naturalWidth === 32)")
    tab.close()


def test_the_contents_lead_to_the_sections(browser: Any, merge_page: Path) -> None:
    tab, _ = visit(browser, merge_page)
    tab.get_by_role("link", name="Reproduce").click()
    pytest.importorskip("playwright.sync_api").expect(tab.locator("#h-from")).to_be_in_viewport()
    tab.close()


TOUCHING = """labels => labels.filter(label => getComputedStyle(label).visibility !== "hidden")
  .map(label => [label.textContent, label.getBoundingClientRect()])
  .flatMap(([name, box], at, all) => all.slice(at + 1).filter(([_, other]) => box.left < other.right && other.left < box.right
    && box.top < other.bottom && other.top < box.bottom).map(([other]) => [name, other]))"""
"""The pairs of visible labels that cover each other."""


@pytest.fixture(scope="module")
def crowded_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many guidance scales, and candidates of long names that cost nearly the same."""
    base = synthetic.merge_suite()
    made = tuple(replace(c, name=f"steps={at} sampler=dpmpp_2m", axes={}) for at, c in enumerate(base.candidates))
    suite = replace(base, candidates=made, baseline=made[0].name, gates=(),
                    grid=replace(synthetic.SMALL, guidance_scales=tuple(map(float, range(1, 9)))))
    return write_page(synthetic.write_run(tmp_path_factory.mktemp("runs") / "crowded", suite))


@pytest.mark.parametrize("width", [390, 1280])
def test_labels_in_figures_cover_no_other_and_stay_in_the_plot(browser: Any, crowded_page: Path, width: int) -> None:
    tab, trouble = visit(browser, crowded_page, viewport={"width": width, "height": 844})
    names = tab.locator("#figure-front .scatterlayer .textpoint text")
    names.first.wait_for(state="attached")
    visible = [name.text_content() for name in names.all() if name.is_visible()]
    assert names.evaluate_all(TOUCHING) == []
    assert sum("★" in (name or "") for name in visible) == 1
    numbers = tab.locator("#figure-heatmap .heatmap-label")
    assert numbers.count() >= 7 * 8
    assert numbers.evaluate_all(TOUCHING) == []
    area = tab.locator("#figure-front .nsewdrag").first.bounding_box()
    boxes = [name.bounding_box() for name in names.all() if name.is_visible()]
    assert all(area["x"] - 1 <= box["x"] and box["x"] + box["width"] <= area["x"] + area["width"] + 1 for box in boxes)
    assert trouble == []
    tab.close()
