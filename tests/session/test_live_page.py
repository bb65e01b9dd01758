"""--live: the page is there before the first image, says that it is unfinished, costs little, and never costs the run."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.run.progress import Silent
from harness.session.live_page import LEAST_SECONDS, LivePage
from harness.session.options import SessionOptions
from harness.session.suite_session import SuiteSession
from tests.fakes import tiny_suite
from tests.plugin.test_plugin import loaded, painted, write_race, write_suite, zoo_cache

__all__ = ["loaded", "painted", "zoo_cache"]
SNAPSHOTS = """
import shutil
from pathlib import Path
import pytest
import harness.session.live_page
harness.session.live_page.LEAST_SECONDS = harness.session.live_page.SHARE = 0.0
import reports.page.live
whole = reports.page.live.write_live
count = 0

def write_live(folder, moment, budget):
    global count
    page = whole(folder, moment, budget)
    count += 1
    images = len(list(folder.rglob("*.png")))
    shutil.copy(page, Path("pages") / f"{count:03d}-{images}.html")
    return page


def pytest_configure(config):
    Path("pages").mkdir()
    reports.page.live.write_live = write_live
"""
FAILING = """
import reports.page.live

def pytest_configure(config):
    def write_live(folder, moment, budget):
        raise OSError("the disk said no")
    reports.page.live.write_live = write_live
"""


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the conftest files inside change is taken back."""
    live, plugin = importlib.import_module("reports.page.live"), importlib.import_module("harness.session.live_page")
    monkeypatch.setattr(live, "write_live", live.write_live)
    monkeypatch.setattr(plugin, "LEAST_SECONDS", plugin.LEAST_SECONDS)
    monkeypatch.setattr(plugin, "SHARE", plugin.SHARE)


def pages(pytester: pytest.Pytester) -> list[str]:
    return [file.read_text(encoding="utf-8") for file in sorted((pytester.path / "pages").iterdir())]


def test_the_page_is_there_before_the_first_image_and_unfinished_until_the_end(pytester: pytest.Pytester, painted: None) -> None:
    write_suite(pytester)
    pytester.makeconftest(SNAPSHOTS)
    result = pytester.runpytest("suites", "--benchmark", "--live", "-p", "no:cacheprovider")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*live page: file://*/runs/tiny/report.html", "*7 passed*"])
    assert (pytester.path / "pages" / "001-0.html").is_file()
    first, *later = pages(pytester)
    assert "Running: nothing sampled yet" in first
    assert all("Unfinished." in page for page in (first, *later))
    assert any("of 24 images" in page for page in later)
    last = (pytester.path / "runs/tiny/report.html").read_text(encoding="utf-8")
    assert "Unfinished" not in last
    assert "location.reload" not in last
    early = ["no verdict yet" in page for page in later]
    assert early == sorted(early, reverse=True), "once there is a verdict so far, it stays"
    assert early[0]
    assert "24 of 24 images; the verdict below is so far only, and may change" in later[-1]


def test_a_race_shows_what_its_looks_asked_for(pytester: pytest.Pytester, painted: None) -> None:
    write_race(pytester)
    pytester.makeconftest(SNAPSHOTS)
    result = pytester.runpytest("suites", "--benchmark", "--live", "-p", "no:cacheprovider")
    assert result.ret == 0
    assert "images, of at most 36" in pages(pytester)[-1]
    assert "What was spent" in pages(pytester)[-1]


def test_a_page_that_cannot_be_written_costs_nothing_but_a_line_at_the_end(pytester: pytest.Pytester, painted: None) -> None:
    write_suite(pytester)
    pytester.makeconftest(FAILING)
    result = pytester.runpytest("suites", "--benchmark", "--live", "-k", "candidate and 0.5", "-p", "no:cacheprovider")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["tiny: a live page could not be written (OSError: the disk said no)*"])
    result.stdout.no_fnmatch_line("*live page: file:*")
    assert result.stdout.str().count("the disk said no") == 1


class Clock:
    """Seconds that only pass when they are told to; writing a page takes four."""

    def __init__(self) -> None:
        self.now, self.written = 1000.0, 0

    def __call__(self) -> float:
        return self.now

    def write(self, folder: Path, moment: Any, budget: float) -> Path:
        self.now += 4.0
        self.written += 1
        return folder


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> tuple[LivePage, Clock]:
    clock = Clock()
    monkeypatch.setattr("reports.page.live.write_live", clock.write)
    return LivePage(Path("runs/tiny"), tiny_suite(), budget=10.0, clock=clock), clock


def test_writing_takes_at_most_a_twentieth_of_the_time(clocked: tuple[LivePage, Clock]) -> None:
    page, clock = clocked
    began = clock.now
    for _ in range(5000):
        clock.now += 0.1
        page.tick("sampling")
    assert clock.written > 3
    assert clock.written * 4.0 <= (clock.now - began) / 20 + 4.0


def test_a_quick_page_is_still_not_written_all_the_time(clocked: tuple[LivePage, Clock],
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    page, clock = clocked
    monkeypatch.setattr("reports.page.live.write_live", lambda *a: setattr(clock, "written", clock.written + 1))
    for _ in range(1000):
        clock.now += LEAST_SECONDS / 50
        page.tick("sampling")
    assert clock.written == 20


def test_nothing_is_written_over_the_finished_page(clocked: tuple[LivePage, Clock]) -> None:
    page, clock = clocked
    page.finished = True
    page.tick("sampling")
    assert clock.written == 0


def test_a_fresh_run_shows_no_image_of_a_candidate_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[frozenset[str]] = []
    monkeypatch.setattr("reports.page.live.write_live", lambda folder, moment, budget: shown.append(moment.anew))
    suite, clock = tiny_suite(), Clock()
    page = LivePage(Path("runs/tiny"), suite, budget=10.0, fresh=True, clock=clock)
    page.opened()
    clock.now += 60.0
    page.watched(Silent(), suite.candidates[0].name).advance(1, "sampling")
    assert shown == [{c.name for c in suite.candidates}, {c.name for c in suite.candidates[1:]}]


def test_without_the_flag_there_is_no_live_page(tmp_path: Path) -> None:
    options = SessionOptions(root=tmp_path, runs=tmp_path, baselines=tmp_path)
    assert SuiteSession(tiny_suite(), "tiny.py", options, Silent()).live is None
    assert SuiteSession(tiny_suite(), "tiny.py", replace(options, live=True), Silent()).live is not None
