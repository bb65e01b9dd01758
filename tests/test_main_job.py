"""The shipped suite, with fewer alphas and one seed, judged by the oracle that knows what was drawn: its advice obeys."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness import Suite, alpha_sweep
from harness.records import Finished
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from reports import load_run, write_page
from reports.read.run import Run
from reports.statistics.intervals import cluster_mean, paired_difference
from reports.verdict.recommendation import Recommendation
from tests.browser import browser
from tests.reports.page.test_browser import visit
from tests.rows import row
from tests.zoo.obedience import advice, judged

__all__ = ["advice", "browser", "judged"]
ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


def shipped(name: str) -> Suite:
    spec = importlib.util.spec_from_file_location(name, ROOT / "suites" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    suite = module.SUITE
    assert isinstance(suite, Suite)
    return suite


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    patch = pytest.MonkeyPatch()
    patch.setenv("SWEETSPOT_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))
    root = tmp_path_factory.mktemp("main")
    suite = shipped("alpha_cfg")
    suite = replace(suite, latency_rounds=1, candidates=alpha_sweep("zoo:photo", "zoo:anime", (0, 0.35, 0.65, 1)),
                    grid=replace(suite.grid, seeds=suite.grid.seeds[:1]))
    job = SuiteRun(suite, "alpha_cfg.py", Options(root=root, runs=root / "runs"), Silent())
    assert all(isinstance(job.candidate(c), Finished) for c in suite.candidates)
    job.close()
    return load_run(root / "runs" / "alpha_cfg")


def cell(table: pd.DataFrame, candidate: str, guidance: float) -> pd.DataFrame:
    return table[(table["candidate"] == candidate) & (table["guidance"] == guidance)]


def test_the_pick_lies_in_the_tied_set_of_obedience(judged: pd.DataFrame, advice: Recommendation) -> None:
    assert advice.pick is not None
    assert advice.guidance is not None
    cells = judged.dropna(subset=["obeyed"]).groupby(["candidate", "guidance"])["obeyed"].mean()
    best = cells.idxmax()
    behind = paired_difference(cell(judged, advice.pick, advice.guidance), cell(judged, *best), row("obeyed"),
                               by=("prompt", "seed"))
    assert behind.mean == 0 or behind.word != "worse"
    assert cells[advice.pick, advice.guidance] >= 0.85


def test_low_guidance_disobeys(judged: pd.DataFrame, advice: Recommendation) -> None:
    lowest = min(judged["guidance"])
    obedience = judged.groupby("guidance")["obeyed"].mean()
    assert obedience[lowest] <= obedience[advice.guidance] - 0.05


def test_high_guidance_burns(judged: pd.DataFrame, advice: Recommendation) -> None:
    clipped = judged.groupby("guidance")["clipped_share"].mean()
    assert clipped[max(judged["guidance"])] >= 1.5 * clipped[advice.guidance]


def test_guidance_is_neither_the_lowest_nor_the_highest(run: Run, advice: Recommendation) -> None:
    assert min(run.suite.grid.guidance_scales) < (advice.guidance or 0) < max(run.suite.grid.guidance_scales)


def test_the_dress_goes_from_red_to_blue_by_way_of_purple(judged: pd.DataFrame) -> None:
    dress = judged[judged["prompt"].str.startswith("dress")]
    share = dress.groupby("candidate")["found"].value_counts(normalize=True).unstack(fill_value=0.0)
    assert share.loc["alpha=0", "red"] >= 0.7
    assert share.loc["alpha=1", "blue"] >= 0.7
    between = share.loc[["alpha=0.35", "alpha=0.65"]]
    assert (between["purple"] > share.loc[["alpha=0", "alpha=1"], "purple"].max()).any()


def test_the_merge_costs_no_prompt_match(run: Run, advice: Recommendation) -> None:
    mine = cell(run.images, str(advice.pick), float(advice.guidance or 0))
    worst = min(cluster_mean(cell(run.images, c, float(advice.guidance or 0)), row("clip_score")).mean or 0.0
                for c in ("alpha=0", "alpha=1"))
    assert (cluster_mean(mine, row("clip_score")).mean or 0.0) >= worst - 1.0


@pytest.mark.browser
def test_its_page_opens_without_an_error_or_a_request_and_shows_the_pick(browser: Any, run: Run, advice: Recommendation) -> None:
    tab, trouble = visit(browser, write_page(run.folder))
    assert f"{float(run.candidate(str(advice.pick)).axes['alpha']):g}" in tab.locator("h1").text_content()
    assert tab.locator(".cell.pick img").first.evaluate("image => image.naturalWidth") == 64
    assert tab.locator("#figure-heatmap .scatterlayer .points path").count() == 1
    assert trouble == []
    tab.close()
