"""Run folders and a baseline written by version 0.1.0 before its modules moved: they load, resume and report the same verdict."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import scipy.stats  # noqa: F401  # before pytester takes its snapshot of sys.modules: numpy cannot be loaded a second time

from tests.gold.facts import facts

GOLD = Path(__file__).parent
SUITES = ("gold", "gold_race")


def same(now: Any, before: Any) -> bool:
    """Equal, numbers to the twelfth digit."""
    if isinstance(before, dict):
        return now.keys() == before.keys() and all(same(now[key], before[key]) for key in before)
    if isinstance(before, list):
        return len(now) == len(before) and all(map(same, now, before))
    if isinstance(before, float):
        return isinstance(now, int | float) and math.isclose(now, before, rel_tol=1e-12, abs_tol=1e-12)
    return type(now) is type(before) and now == before


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A copy of the gold's suites, run folders and baseline."""
    for name in ("suites", "runs", "models"):
        shutil.copytree(GOLD / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", SUITES)
def test_an_old_run_folder_gives_the_verdict_it_gave_then(name: str, work: Path) -> None:
    expected = json.loads((GOLD / f"{name}.json").read_text())
    now = facts(work / "runs" / name)
    assert {key for key in expected if not same(now.get(key), expected[key])} == set()


def sampled(folder: Path) -> tuple[dict[Path, int], list[str]]:
    """When each image of a run folder was written, and the journal's lines about them."""
    lines = (folder / "journal.jsonl").read_text().splitlines()
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}, [x for x in lines if '"kind":"sample"' in x]


def test_old_run_folders_resume_without_sampling_and_report_the_same(work: Path, pytester: pytest.Pytester) -> None:
    before = {name: sampled(work / "runs" / name) for name in SUITES}
    pytester.makeconftest("")
    done = pytester.runpytest_subprocess(work / "suites", "--benchmark", "--runs-dir", work / "runs", "--baselines",
                                         work / "models" / "baselines", "-q", "-p", "no:cacheprovider")
    assert done.ret == 0, done.outlines
    assert {name: sampled(work / "runs" / name) for name in SUITES} == before
    for name in SUITES:
        expected = json.loads((GOLD / f"{name}.json").read_text())
        now = facts(work / "runs" / name)
        assert {key for key in expected if not same(now.get(key), expected[key])} == set(), name


@pytest.mark.parametrize("name", SUITES)
def test_the_table_has_the_old_columns_with_the_old_values(name: str, work: Path) -> None:
    from reports import load_run
    from reports.page.build import csv

    (work / "now.csv").write_text(csv(load_run(work / "runs" / name)))
    now, before = pd.read_csv(work / "now.csv"), pd.read_csv(GOLD / "runs" / name / "table.csv")
    # Since then a tie for the usual colour favours no side: there an image has a half where it had 0 or 1.
    changed = (now["palette_left"] != before["palette_left"]) & before["palette_left"].notna()
    assert set(now.loc[changed, "palette_left"]) <= {0.5}
    pd.testing.assert_frame_equal(now.loc[~changed, list(before.columns)], before[~changed])
    same_values = [name for name in before.columns if name not in ("palette_left", "objective")]
    pd.testing.assert_frame_equal(now[same_values], before[same_values])
