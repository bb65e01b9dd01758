"""Desirability: known points of each part, their geometric mean by another way, and what is missing stays missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import gmean

from harness.declare import DESIRABILITY, Desirability, Objective, Penalty
from reports.read.objective import desirability, desirable, parts_of, range_of, with_objective
from reports.read.run import load_run, with_derived
from reports.verdict.recommending import recommend
from tests.reports import synthetic
from tests.rows import row

CLIP = Desirability(metric="clip_score", worst=20, best=30)
BURNT = Desirability(metric="clipped_share", worst=0.2, best=0.0, weight=2)


@pytest.mark.parametrize(("value", "of", "expected"), [
    (19.0, CLIP, 0.0), (20.0, CLIP, 0.0), (25.0, CLIP, 0.5), (30.0, CLIP, 1.0), (31.0, CLIP, 1.0),
    (0.0, BURNT, 1.0), (0.05, BURNT, 0.75), (0.2, BURNT, 0.0), (0.9, BURNT, 0.0),
    (25.0, replace(CLIP, shape=2), 0.25), (22.5, replace(CLIP, shape=0.5), 0.5), (0.1, replace(BURNT, shape=3), 0.125)])
def test_a_part_goes_from_nothing_at_worst_to_one_at_best(value: float, of: Desirability, expected: float) -> None:
    assert desirable(np.array([value]), of)[0] == pytest.approx(expected, abs=1e-12)


def test_a_better_value_is_never_less_desirable() -> None:
    values = np.linspace(-0.1, 0.4, 101)
    assert (np.diff(desirable(values, BURNT)) <= 0).all()


def test_worst_and_best_alike_are_refused() -> None:
    with pytest.raises(ValueError, match="two different values"):
        desirable(np.array([1.0]), Desirability(metric="clip_score", worst=1, best=1))


def test_the_whole_is_the_weighted_geometric_mean() -> None:
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"clip_score": rng.uniform(21, 29, 50), "clipped_share": rng.uniform(0.01, 0.15, 50)})
    parts = np.stack([(table["clip_score"] - 20) / 10, 1 - table["clipped_share"] / 0.2])
    expected = 100 * gmean(parts, axis=0, weights=np.array([[1.0], [2.0]]))
    np.testing.assert_allclose(desirability(table, (CLIP, BURNT)), expected, rtol=1e-12)


def test_what_is_unacceptable_in_one_respect_is_worth_nothing() -> None:
    table = pd.DataFrame({"clip_score": [35.0], "clipped_share": [0.3]})
    assert desirability(table, (CLIP, BURNT)).tolist() == [0.0]


def test_a_missing_part_makes_the_whole_missing() -> None:
    table = pd.DataFrame({"clip_score": [25.0, np.nan, 25.0], "clipped_share": [0.1, 0.1, np.nan]})
    assert desirability(table, (CLIP, BURNT)).isna().tolist() == [False, True, True]
    assert desirability(table, (replace(CLIP, metric="lpips"),)).isna().all()
    assert desirability(table, ()).isna().all()


def test_penalties_are_taken_off_the_desirability() -> None:
    objective = Objective(maximise="desirability", desirabilities=(CLIP,),
                          penalties=(Penalty(metric="clipped_share", weight=100, allowance=0.05),))
    table = with_objective(pd.DataFrame({"clip_score": [25.0], "clipped_share": [0.15]}), objective)
    assert table["desirability"].tolist() == [50.0]
    assert table["objective"].tolist() == pytest.approx([40.0])
    assert parts_of(objective) == ("clip_score", "clipped_share")


def test_a_suite_that_maximises_desirability_is_recommended_by_it(tmp_path: Path) -> None:
    """The parts pull apart: CLIP still rises with guidance where more pixels burn."""
    objective = Objective(maximise="desirability", desirabilities=(CLIP, replace(BURNT, worst=0.06)), penalties=())
    suite = synthetic.merge_suite(objective=objective, candidates=synthetic.merge_suite().candidates[:4])
    run = load_run(synthetic.write_run(tmp_path / "run", suite))
    assert run.images["desirability"].between(0, 100).all()
    assert (run.images["objective"] == run.images["desirability"]).all()
    assert (recommend(run).guidance or 0) < max(suite.grid.guidance_scales)
    assert run.values["desirability"].better == "higher"


def test_other_suites_have_no_such_value(merge_run: object) -> None:
    assert "desirability" not in merge_run.values  # type: ignore[attr-defined]
    assert "desirability" not in merge_run.images.columns  # type: ignore[attr-defined]


@pytest.mark.parametrize(("colours", "left"), [
    ("red red blue", [0, 0, 1]), ("red blue", [0.5, 0.5]), ("blue red", [0.5, 0.5]), ("red blue blue red gray", [0.5] * 4 + [1]),
    ("red blue gray", [2 / 3] * 3), ("red", [0])])
def test_a_tie_for_the_usual_colour_favours_no_side(colours: str, left: list[float]) -> None:
    table = pd.DataFrame({"candidate": "a", "prompt": "p", "dominant": colours.split(), "clip_score": 30.0})
    assert with_derived(table, Objective(penalties=()))["palette_left"].tolist() == pytest.approx(left)


@pytest.mark.parametrize(("objective", "ends"), [
    (Objective(penalties=()), (-100, 100)),
    (Objective(), (-200, 100)),
    (Objective(maximise="clipped_share", penalties=(Penalty(metric="palette_drift", weight=1.0),)), (None, 1)),
    (Objective(maximise="novelty", penalties=()), (None, None)),
    (Objective(maximise=DESIRABILITY, desirabilities=(CLIP,), penalties=()), (0, 100))])
def test_the_range_of_an_objective_follows_from_its_parts(objective: Objective, ends: tuple[float | None, float | None]) -> None:
    rows = {name: row(name) for name in ("clip_score", "clipped_share", "palette_drift", "palette_left")}
    assert range_of(objective, rows) == ends
