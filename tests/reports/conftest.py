"""Synthetic runs that many tests read: written once per session, never changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.page.build import write_page
from reports.read.run import Run, load_run
from reports.verdict.recommendation import Recommendation
from reports.verdict.recommending import recommend
from tests.browser import browser
from tests.reports import synthetic

__all__ = ["browser"]


@pytest.fixture(scope="session")
def merge_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write_run(tmp_path_factory.mktemp("runs") / "merge", synthetic.merge_suite())


@pytest.fixture(scope="session")
def merge_run(merge_folder: Path) -> Run:
    return load_run(merge_folder)


@pytest.fixture(scope="session")
def merge_verdict(merge_run: Run) -> Recommendation:
    return recommend(merge_run)


@pytest.fixture(scope="session")
def merge_page(merge_folder: Path) -> Path:
    return write_page(merge_folder)


@pytest.fixture(scope="session")
def quantization_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "quantization"
    return load_run(synthetic.write_run(folder, synthetic.quantization_suite()))


@pytest.fixture(scope="session")
def hostile_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write_run(tmp_path_factory.mktemp("runs") / "hostile", synthetic.hostile_suite(),
                               extra=synthetic.failing("alpha=1"))
