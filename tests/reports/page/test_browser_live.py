"""The page of a run that goes on, in a real browser: it reloads itself, and its reader stays where they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports import write_page
from reports.page.live import Moment, write_live
from tests.reports import pictured
from tests.reports.page.test_browser import visit

pytestmark = pytest.mark.browser
LIVE = "html[data-live]"
MOMENT = Moment(doing="sampling", every=1.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run in which one candidate of three has no image yet."""
    made = pictured.write_run(tmp_path / "dress", pictured.suite(), lambda number, cell: number < 2)
    write_live(made, MOMENT, 10.0)
    return made


def reloaded(tab: Any) -> None:
    """Waits until the page was loaded anew and everything was put back."""
    tab.evaluate("document.documentElement.dataset.before = ''")
    tab.wait_for_selector("html:not([data-before])[data-live]", state="attached", timeout=60_000)


def test_a_reload_keeps_place_axes_and_page(browser: Any, folder: Path) -> None:
    tab, trouble = visit(browser, folder / "report.html", LIVE, viewport={"width": 900, "height": 600})
    assert "no verdict yet" in tab.locator("#live").text_content()
    tab.locator("#explorer-rows").select_option(label="prompt")
    tab.locator("#explorer-columns").select_option(label="seed")
    tab.locator("#explorer-fixed-1").select_option(label="CFG 3.5")
    tab.evaluate("document.activeElement.blur(); scrollTo({top: 400, behavior: 'instant'}); "
                 "document.getElementById('explorer').scrollTop = 300")
    source = tab.locator(".cell[data-row='3'][data-column='1'] img").get_attribute("src")
    at = tab.evaluate("document.getElementById('h-explorer').getBoundingClientRect().top")
    reloaded(tab)
    assert tab.evaluate("document.getElementById('h-explorer').getBoundingClientRect().top") == pytest.approx(at, abs=2)
    assert tab.locator("#explorer-rows option:checked").text_content() == "prompt"
    assert tab.locator("#explorer-fixed-1 option:checked").text_content() == "CFG 3.5"
    assert tab.evaluate("document.getElementById('explorer').scrollTop") == 300
    assert tab.locator(".cell[data-row='3'][data-column='1'] img").get_attribute("src") == source
    assert trouble == []
    tab.close()


def test_it_does_not_reload_while_a_picture_is_open_and_does_afterwards(browser: Any, folder: Path) -> None:
    tab, _ = visit(browser, folder / "report.html", LIVE)
    tab.locator(".cell[data-row='0'][data-column='0']").click()
    tab.evaluate("document.documentElement.dataset.before = ''")
    tab.wait_for_timeout(4500)
    assert tab.locator("#viewer-dialog[open]").count() == 1
    assert tab.evaluate("document.documentElement.dataset.before") == ""
    tab.locator("#viewer-close").click()
    tab.wait_for_selector("html:not([data-before])[data-live]", state="attached", timeout=60_000)
    tab.close()


def test_held_still_it_does_not_reload(browser: Any, folder: Path) -> None:
    tab, _ = visit(browser, folder / "report.html", LIVE)
    tab.locator("#live-hold").check()
    tab.evaluate("document.documentElement.dataset.before = ''")
    tab.wait_for_timeout(4500)
    assert tab.evaluate("document.documentElement.dataset.before") == ""
    tab.close()


def test_the_finished_page_takes_the_place_of_the_live_one_and_stays(browser: Any, folder: Path) -> None:
    tab, trouble = visit(browser, folder / "report.html", LIVE)
    write_page(folder)
    tab.wait_for_selector("html:not([data-live])[data-ready]", state="attached", timeout=60_000)
    assert tab.locator("#live").count() == 0
    assert tab.evaluate("document.documentElement.outerHTML.includes('location.reload')") is False
    assert trouble == []
    tab.close()
