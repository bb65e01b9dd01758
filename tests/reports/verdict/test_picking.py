"""The pick: that the surface decides where there is one, that a real spike is not smoothed away, and what parents may be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness.declare import Adapter, Candidate, Merge, Sampling, Suite
from reports.read.run import Run
from reports.verdict.picking import choose, own_guidances, surface_of
from reports.verdict.recommending import recommend
from reports.verdict.scoring import score_table
from tests.race.test_elimination import SCALES, hill, images, suite
from tests.reports.cells_by_hand import estimate, scored


def with_table(run: Run, of: Suite, table: pd.DataFrame) -> Run:
    return replace(run, suite=replace(of, budget=None), images=table, missing=(), failures=())


def test_a_lucky_cell_far_from_the_top_is_highest_but_the_surface_picks_the_top() -> None:
    given = suite()
    table = images(given, hill(height=12.0), noise=8.0)
    table.loc[(table["candidate"] == "alpha=0.75") & (table["guidance"] == 8.0), "objective"] += 4.0
    cells = score_table(table)
    best, picked = max(cells, key=lambda c: c.objective.mean or 0.0), choose(table, given, cells)
    assert picked is not None
    assert (best.candidate, best.guidance) == ("alpha=0.75", 8.0)
    assert (picked.cell.candidate, picked.cell.guidance) == ("alpha=0.5", 5.0)


def test_a_real_spike_is_not_smoothed_away(merge_run: Run) -> None:
    given = suite()
    truth = hill(top=(0.5, 3.0), height=10.0) | {(0.75, 8.0): 9.0}
    rec = recommend(with_table(merge_run, given, images(given, truth, noise=0.5)))
    assert (rec.pick, rec.guidance) == ("alpha=0.75", 8.0)


def test_where_the_surface_cannot_follow_the_cells_these_decide_with_a_caveat(
        merge_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.statistics.surface._most_likely", lambda *_: (1.0, np.array([5.0, 5.0])))
    given = suite()
    truth = hill(top=(0.5, 3.0), height=10.0) | {(0.75, 8.0): 9.0}
    rec = recommend(with_table(merge_run, given, images(given, truth, noise=0.5)))
    assert (rec.pick, rec.guidance) == ("alpha=0.75", 8.0)
    assert any(c.startswith("A smooth surface does not fit these cells") for c in rec.caveats)
    assert not any(r.startswith("On the smooth surface") for r in rec.reasons)


def test_level_cells_give_the_lowest_guidance_and_the_middle(merge_run: Run) -> None:
    given = suite()
    table = images(given, {}, noise=0.0)
    rec = recommend(with_table(merge_run, given, table))
    assert (rec.pick, rec.guidance) == ("alpha=0.5", 3.0)


@pytest.mark.parametrize(("prefer", "pick", "guidance"), [
    ({"guidance": "lowest", "alpha": "lowest"}, "alpha=0.25", 3.0), ({"guidance": "highest"}, "alpha=0.5", 8.0),
    ({"alpha": "highest", "guidance": "middle"}, "alpha=0.75", 5.0)])
def test_of_what_is_level_the_preferred_sides_are_taken(
        merge_run: Run, prefer: dict[str, str], pick: str, guidance: float) -> None:
    given = suite()
    given = replace(given, objective=replace(given.objective, prefer=prefer))
    rec = recommend(with_table(merge_run, given, images(given, {}, noise=0.0)))
    assert (rec.pick, rec.guidance) == (pick, guidance)


def test_a_preference_does_not_leave_what_is_near_the_best() -> None:
    given = suite()
    table = images(given, hill(height=30.0), noise=0.5)
    far = choose(table, replace(given, objective=replace(given.objective, prefer={"guidance": "highest"})), score_table(table))
    assert far is not None
    assert (far.cell.candidate, far.cell.guidance) == ("alpha=0.5", 5.0)


def test_a_parent_is_picked_only_when_no_mixture_is_tied(merge_run: Run) -> None:
    given = suite()
    slope = {(a, g): -20 * a for a in (0.0, 0.25, 0.5, 0.75, 1.0) for g in SCALES}
    assert recommend(with_table(merge_run, given, images(given, slope))).pick == "alpha=0"
    gentle = {cell: 0.002 * value for cell, value in slope.items()}
    assert recommend(with_table(merge_run, given, images(given, gentle))).pick != "alpha=0"


def test_two_candidates_of_one_axis_value_make_no_surface() -> None:
    given = suite()
    twin = Candidate(name="twin", model=Merge(a="zoo:a", b="zoo:b", alpha=0.5), axes={"alpha": 0.5})
    both = replace(given, candidates=(*given.candidates, twin))
    assert surface_of(images(given, hill()), given, score_table(images(given, hill()))) is not None
    assert surface_of(images(both, hill()), both, score_table(images(both, hill()))) is None


@pytest.mark.parametrize("scales", [(3.0,), (3.0, 5.0)])
def test_every_point_of_the_surface_is_its_cell(scales: tuple[float, ...]) -> None:
    given = suite()
    table = images(given, hill())
    table = table[table["guidance"].isin(scales)]
    cells = score_table(table)
    mapped = surface_of(table, given, cells)
    assert mapped is not None
    means = {(c.candidate, c.guidance): c.objective.mean for c in cells}
    assert mapped.surface.measured == pytest.approx([means[cell] for cell in mapped.cells])


def test_a_control_is_best_where_it_is_least_behind_also_when_a_look_dropped_it() -> None:
    cells = [scored("a", 3.0, estimate(-2.0, -3.0, -1.0)),
             scored("a", 5.0, estimate(-1.0, -2.0, -0.5), dropped=True, complete=False),
             scored("a", 7.0, estimate(-0.5, -2.0, 1.0), complete=False),
             scored("a", 9.0, estimate(-0.1, -2.0, 1.0), ruled_out="burnt")]
    assert own_guidances(cells) == {"a": 5.0}


def test_among_the_tied_of_two_axes_the_earliest_step_is_preferred_and_the_page_says_so(merge_run: Run) -> None:
    steps, weights = (100, 200, 300), (0.5, 1.0)
    made = tuple(Candidate(name=f"step={s} weight={w:g}", model="zoo:photo", axes={"step": s, "weight": w},
                           adapters=(Adapter(path=f"{s}.safetensors", weight=w),)) for s in steps for w in weights)
    alone = Candidate(name="weight=0", model="zoo:photo", axes={"step": 100, "weight": 0.0})
    given = replace(suite(), candidates=(alone, *made), baseline="weight=0",
                    objective=replace(suite().objective, prefer={"guidance": "lowest", "step": "lowest"}))
    drawn = tuple(replace(c, axes={**c.axes, "alpha": 0.0}) for c in given.candidates)
    rows = images(replace(given, candidates=drawn), {}, noise=0.0)
    worse = rows["candidate"].isin(["weight=0", *(c.name for c in made[:2])])
    table = rows.assign(objective=rows["objective"] - 20.0 * worse)
    rec = recommend(with_table(merge_run, given, table))
    assert (rec.pick or "").startswith("step=200")
    assert any("the lowest CFG, and there the lowest step (200, the earliest of these)" in reason for reason in rec.reasons)


@pytest.mark.parametrize("samplers", [("euler",), ("euler", "heun")])
@pytest.mark.parametrize(("prefer", "steps"), [({"guidance": "lowest"}, 4), ({"guidance": "lowest", "steps": "middle"}, 8),
                                               ({"guidance": "lowest", "steps": "highest"}, 12)])
def test_of_steps_that_are_level_the_fewest_are_picked_unless_the_objective_says_otherwise(
        merge_run: Run, samplers: tuple[str, ...], prefer: dict[str, str], steps: int) -> None:
    given, table = sampled_in_steps(samplers, prefer, best=0.0)
    rec = recommend(with_table(merge_run, given, table))
    assert (rec.pick or "").startswith(f"steps={steps} ")


def test_a_preference_that_decided_nothing_is_not_given_as_a_reason(merge_run: Run) -> None:
    given, table = sampled_in_steps(("euler", "heun"), {"steps": "lowest"}, best=1.0)
    rec = recommend(with_table(merge_run, given, table))
    assert (rec.pick, sum(cell.tied for cell in rec.cells)) == ("steps=12 heun", len(rec.cells))
    assert "lowest steps" not in " ".join((rec.sentence, *rec.reasons))
    assert any("the preferences of the objective decided nothing" in reason for reason in rec.reasons)


def sampled_in_steps(samplers: tuple[str, ...], prefer: dict[str, str], best: float) -> tuple[Suite, pd.DataFrame]:
    """Candidates of 4, 8 and 12 steps for each sampler, all alike but for the last, which is better by `best` on average
    and varies so much between prompts that all are tied."""
    made = tuple(Candidate(name=f"steps={n} {sampler}", model="zoo:photo", axes={"steps": float(n)},
                           sampling=Sampling(steps=n, sampler=sampler)) for sampler in samplers for n in (4, 8, 12))
    given = replace(suite(), candidates=made, baseline=made[-1].name, objective=replace(suite().objective, prefer=prefer))
    drawn = replace(given, candidates=tuple(replace(c, axes={"alpha": 0.0}) for c in made))
    table = images(drawn, {}, noise=0.0)
    last = (table["candidate"] == made[-1].name) & (table["guidance"] == table["guidance"].min())
    odd = table["prompt"].map({p: i % 2 for i, p in enumerate(sorted(table["prompt"].unique()))})
    return given, table.assign(objective=table["objective"] + best * last * (1 + 2.5 * (2 * odd - 1)))


def test_fewer_steps_come_before_a_lower_guidance(merge_run: Run) -> None:
    given, table = sampled_in_steps(("euler", "heun"), {"guidance": "lowest"}, best=0.0)
    lowest = table["guidance"] == table["guidance"].min()
    few = table["candidate"].str.startswith("steps=4 ")
    rec = recommend(with_table(merge_run, given, table.assign(objective=table["objective"] - 20.0 * (few & lowest))))
    assert (rec.pick or "").startswith("steps=4 ")
    assert rec.guidance == sorted(table["guidance"].unique())[1]
    assert any("the pick has the lowest steps (4)" in reason for reason in rec.reasons)
