"""One headless Chromium for all tests of a session, and what an opened page complains of or asks for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: dev)")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


def new_tab(browser: Any, page: Path, **how: Any) -> tuple[Any, list[str]]:
    """A tab on the page, and the list that fills with its messages, its errors and the addresses it asks for beside its own."""
    tab, trouble = browser.new_page(**how), list[str]()
    tab.on("console", lambda message: trouble.append(message.text))
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.on("request", lambda asked: trouble.append(asked.url)
           if not asked.url.startswith(("data:", "blob:", page.as_uri())) else None)
    tab.goto(page.as_uri())
    return tab, trouble
