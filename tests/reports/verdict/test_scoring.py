"""Scores under constraints: what is ruled out, by which interval, and that it neither competes nor is lost from sight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness.declare import Constraint, Objective
from harness.records.values import OBJECTIVE
from reports.read.run import Run
from reports.statistics.intervals import cluster_mean
from reports.verdict.recommending import recommend
from reports.verdict.scoring import constrained, limited, ruled_out, score_table
from tests.rows import ROWS, row


def under(run: Run, *constraints: Constraint) -> Run:
    """The run, its suite's objective with these constraints."""
    return replace(run, suite=replace(run.suite, objective=Objective(constraints=constraints)))


def table(values: dict[str, list[float]], metric: str = "chroma") -> pd.DataFrame:
    """One image of each prompt and candidate; every candidate scores the values' mean."""
    rows = [(name, f"p{i}", "select", 1, 3.0, 50.0 + i % 3, v) for name, listed in values.items() for i, v in enumerate(listed)]
    return pd.DataFrame(rows, columns=["candidate", "prompt", "split", "seed", "guidance", "objective", metric])


def test_only_an_interval_wholly_on_the_wrong_side_rules_a_cell_out() -> None:
    # by hand: means 12 and 10.5, SD 1 and 1 of three prompts, half width 4.303 / sqrt(3) = 2.48: [9.52, 14.48] and [8.02, 12.98]
    given = table({"a": [11.0, 12.0, 13.0], "b": [9.5, 10.5, 11.5]})
    assert set(ruled_out(given, limited([Constraint(metric="chroma", at_most=9.5)], ROWS))) == {("a", 3.0)}
    assert set(ruled_out(given, limited([Constraint(metric="chroma", at_least=13.0)], ROWS))) == {("b", 3.0)}
    assert ruled_out(given, limited([Constraint(metric="chroma", at_most=9.6)], ROWS)) == {}


def test_what_rules_a_cell_out_is_said_with_its_interval_and_the_limit() -> None:
    limits = limited([Constraint(metric="clipped_share", at_most=0.05)], ROWS)
    said = ruled_out(table({"a": [0.2, 0.3, 0.25]}, "clipped_share"), limits)
    assert said["a", 3.0].startswith("Clipped pixels 25.0 % [")
    assert said["a", 3.0].endswith("at most 5.0 % was asked for")


def test_shares_have_the_interval_that_gates_use(merge_run: Run) -> None:
    found = constrained(merge_run.images, row("clipped_share"))["alpha=0.45", 8.0]
    rows = merge_run.images[(merge_run.images["candidate"] == "alpha=0.45") & (merge_run.images["guidance"] == 8.0)]
    expected = cluster_mean(rows, row("clipped_share"))
    assert (found.mean, found.low, found.high) == pytest.approx((expected.mean, expected.low, expected.high))


def test_a_limit_is_said_in_the_unit_of_its_value() -> None:
    limits = limited([Constraint(metric="clipped_share", at_most=0.05), Constraint(metric="psnr_db", at_least=30)], ROWS)
    assert [limit.words for limit in limits] == ["at most 5.0 %", "at least 30.00 dB"]


def test_a_ruled_out_cell_is_scored_but_no_part_of_the_tied_set_and_not_what_others_are_measured_from() -> None:
    given = table({"a": [9.0, 9.1, 9.2], "b": [1.0, 1.1, 1.2]})
    given.loc[given["candidate"] == "a", "objective"] += 20 + np.arange(3)
    a, b = score_table(given, limited([Constraint(metric="chroma", at_most=5.0)], ROWS))
    assert (a.tied, a.complete, b.tied, b.behind.mean) == (False, True, True, 0.0)
    assert a.objective.mean == pytest.approx(72.0)
    assert a.behind.mean == pytest.approx(21.0)


def test_the_pick_is_the_best_that_keeps_the_constraint(merge_run: Run) -> None:
    free, bound = recommend(merge_run), recommend(under(merge_run, Constraint(metric="saturation", at_most=0.47)))
    assert free.guidance == 8.0
    assert (bound.pick, bound.guidance) == ("alpha=0.45", 3.0)  # saturation is 0.35 + 0.03 x guidance
    assert all(bool(c.ruled_out) == (c.guidance > 3) for c in bound.cells)
    assert any(c.startswith("Not eligible, because a constraint rules them out: ") for c in bound.caveats)


def test_without_a_cell_that_keeps_the_constraints_nothing_is_picked_and_the_best_of_them_is_named(merge_run: Run) -> None:
    rec = recommend(under(merge_run, Constraint(metric="saturation", at_most=0.1)))
    assert (rec.pick, rec.guidance) == (None, None)
    assert rec.sentence.startswith("No recommendation: no cell keeps the constraints; alpha 0.45 at CFG")
    assert "at most 0.100 was asked for" in rec.sentence


def test_a_constraint_on_what_was_not_measured_is_a_caveat(merge_run: Run) -> None:
    rec = recommend(under(merge_run, Constraint(metric="chroma", at_most=1.0)))
    assert rec.pick is not None
    assert any("chroma was not measured" in c for c in rec.caveats)


def test_a_pick_that_may_or_may_not_keep_a_constraint_is_a_caveat(merge_run: Run) -> None:
    pick = recommend(merge_run)
    rows = merge_run.images[(merge_run.images["candidate"] == pick.pick) & (merge_run.images["guidance"] == pick.guidance)
                            & (merge_run.images["split"] == "select")]
    middle = float(rows["clip_score"].mean())
    rec = recommend(under(merge_run, Constraint(metric="clip_score", at_least=middle)))
    assert any(c.startswith("The data do not show whether the pick meets CLIP score at least") for c in rec.caveats)
    sure = recommend(under(merge_run, Constraint(metric="clip_score", at_least=0.0)))
    assert not any("It is open" in c for c in sure.caveats)


def test_the_reasons_say_what_is_open_and_which_cell_the_others_were_measured_from(merge_run: Run) -> None:
    free = recommend(merge_run)
    lead = (merge_run.images["candidate"] == free.pick) & (merge_run.images["guidance"] == free.guidance)
    own = merge_run.images["prompt"].str[1:].astype(int) % 2
    share = pd.Series(np.where(lead, 0.05 + 0.1 * own, 0.01), index=merge_run.images.index)
    objective = merge_run.images["objective"].where(~lead, merge_run.images["objective"] + 30)
    run = under(merge_run, Constraint(metric="clipped_share", at_most=0.1))
    said = recommend(replace(run, images=merge_run.images.assign(clipped_share=share, objective=objective))).reasons[0]
    assert f"at CFG {free.guidance:g}, but the data do not show whether it meets the constraints" in said
    none = recommend(replace(run, images=merge_run.images.assign(clipped_share=0.05 + 0.1 * own, objective=objective))).reasons[0]
    assert "No cell is shown to meet the constraints, so no cell is excluded" in none


def test_a_constraint_with_one_prompt_was_not_judged(merge_run: Run) -> None:
    one = replace(merge_run, images=merge_run.images[merge_run.images["prompt"] == "p00"])
    rec = recommend(under(one, Constraint(metric="saturation", at_most=0.1)))
    assert any("could not be evaluated: no values, or only one prompt" in c for c in rec.caveats)


def clipping(open_share: Sequence[float], objective: dict[str, float]) -> pd.DataFrame:
    """Eight prompts; `a` clips as given, all others 1 % on every prompt; objectives differ by the given and a little noise."""
    wave = np.sin(np.arange(8)) - np.sin(np.arange(8)).mean()
    given = table({name: list(open_share) if name == "a" else [0.01] * 8 for name in objective}, "clipped_share")
    shift = given["candidate"].map(objective) + given["candidate"].map({n: i for i, n in enumerate(objective)}) * 0.1 * np.tile(
        wave, len(objective))
    return given.assign(objective=given["objective"] + shift)


OPEN = (0.02, 0.18, 0.04, 0.16, 0.06, 0.14, 0.03, 0.17)
CLIPPED = Constraint(metric="clipped_share", at_most=0.1)


def test_a_leader_whose_constraint_is_open_stays_but_leaves_nobody_out() -> None:
    given = clipping(OPEN, {"a": 20.0, "b": 5.01, "c": 5.0, "d": -15.0})
    a, b, c, d = score_table(given, limited([CLIPPED], ROWS))
    assert (a.tied, b.tied, c.tied, d.tied) == (True, True, True, False)
    assert (b.behind.mean, a.ruled_out) == (0.0, "")
    assert a.behind.low is not None and a.behind.low > 0
    assert d.behind.high is not None and d.behind.high < 0


def test_without_a_cell_shown_to_keep_the_constraint_nothing_is_left_out() -> None:
    given = clipping(OPEN, {"a": 20.0, "b": 5.0, "c": -15.0})
    given["clipped_share"] = np.tile(OPEN, 3)
    assert [c.tied for c in score_table(given, limited([CLIPPED], ROWS))] == [True, True, True]
    assert [c.tied for c in score_table(given)] == [True, False, False]


def test_an_open_cell_below_the_best_kept_one_is_left_out_like_any_other() -> None:
    a, b = score_table(clipping(OPEN, {"a": -15.0, "b": 5.0}), limited([CLIPPED], ROWS))
    assert (a.tied, a.ruled_out, b.tied) == (False, "", True)


def test_constraints_share_half_of_the_error_and_the_rest_is_for_the_tied_set() -> None:
    rng = np.random.default_rng(3)
    given = table({name: rng.normal(9, 1, 8).tolist() for name in "abcd"}).assign(brightness=0.5)
    given["objective"] += rng.normal(0, 3, len(given))
    kept = [Constraint(metric="chroma", at_most=99.0), Constraint(metric="brightness", at_least=0.1)]
    plain, bound = score_table(given, level=0.95), score_table(given, limited(kept, ROWS), level=0.9)
    assert [c.behind for c in plain] == [c.behind for c in bound]
    ends = constrained(given, row("chroma"), 1 - 0.1 / 4)["a", 3.0]
    assert ends.low is not None
    assert score_table(given, limited([replace(kept[0], at_most=ends.low - 1e-9), kept[1]], ROWS), level=0.9)[0].ruled_out
    assert not score_table(given, limited([replace(kept[0], at_most=ends.low + 1e-9), kept[1]], ROWS), level=0.9)[0].ruled_out


def test_a_constraint_that_was_not_measured_takes_no_share_of_the_error() -> None:
    given = clipping(OPEN, {"a": 2.0, "b": 1.0})
    assert score_table(given, limited([Constraint(metric="sharpness", at_least=1.0)], ROWS)) == score_table(given)


def test_cells_just_beyond_a_limit_rarely_cost_the_best_one_that_keeps_it() -> None:
    rng = np.random.default_rng(5)
    lost = 0
    for _ in range(60):  # one cell clearly keeps the limit; 19 better ones are beyond it by a hair
        rows = [("good" if i == 0 else f"c{i}", f"p{p}", "select", 1, 3.0, rng.normal(0 if i == 0 else 20),
                 5.0 if i == 0 else rng.normal(10.001)) for i in range(20) for p in range(8)]
        given = pd.DataFrame(rows, columns=["candidate", "prompt", "split", "seed", "guidance", "objective", "chroma"])
        lost += not score_table(given, limited([Constraint(metric="chroma", at_most=10.0)], ROWS))[0].tied
    assert lost <= 5


def test_dropped_cells_do_not_compete_and_their_fewer_images_make_no_other_cell_incomplete() -> None:
    given = table({"a": [0.0] * 4, "b": [0.0] * 4, "c": [0.0] * 2})
    a, b, c = score_table(given, out={("c", 3.0)})
    assert (a.complete, b.complete, c.complete, c.dropped, c.tied) == (True, True, False, True, False)
    assert c.behind.prompts == 2


@pytest.mark.parametrize("lacking", [{"easy": "hard", "better": "easy"}, {"easy": "hard", "better": "hard"}])
def test_cells_are_ranked_on_the_images_that_all_of_them_have(lacking: dict[str, str]) -> None:
    """`better` has 2 points more on every image; who lacks the hard prompts has the higher mean of what is left."""
    level = {"hard": 10.0, "easy": 40.0, "fair": 25.0}
    rows = [(name, f"{kind}{i}", "select", 1, 3.0, level[kind] + 2 * (name == "better") + i % 2)
            for name in ("easy", "better") for kind in level for i in range(4) if lacking[name] != kind]
    scored = {c.candidate: c for c in score_table(pd.DataFrame(
        rows, columns=["candidate", "prompt", "split", "seed", "guidance", "objective"]))}
    assert [name for name, c in scored.items() if c.tied] == ["better"]
    assert scored["better"].objective.mean == pytest.approx((scored["easy"].objective.mean or 0.0) + 2)
    assert scored["better"].objective.pairs == 12 - 4 * len(set(lacking.values()))


def test_cells_without_a_common_image_are_not_ranked() -> None:
    rows = [(name, f"{name}{i}", "select", 1, 3.0, float(i)) for name in ("a", "b") for i in range(4)]
    given = pd.DataFrame(rows, columns=["candidate", "prompt", "split", "seed", "guidance", "objective"])
    assert [(c.complete, c.tied, c.objective.mean) for c in score_table(given)] == [(False, False, None)] * 2


@pytest.mark.parametrize("seed", range(20))
def test_intervals_of_an_objective_end_where_its_range_does_and_decide_as_before(seed: int) -> None:
    rng = np.random.default_rng(seed)
    near_the_ends = [np.clip(rng.normal(mean, 40, 4), 0, 100) for mean in (2, 97, 50, 100)]
    given = table({name: [0.0] * 4 for name in "abcd"}).assign(objective=np.concatenate(near_the_ends))
    free, cut = score_table(given), score_table(given, value=replace(OBJECTIVE, low=0.0, high=100.0))
    assert any(not 0 <= (one.objective.low or 0.0) <= (one.objective.high or 0.0) <= 100 for one in free)
    for one, other in zip(free, cut, strict=True):
        assert (one.tied, one.objective.mean, one.behind.mean) == (other.tied, other.objective.mean, other.behind.mean)
        assert 0 <= (other.objective.low or 0.0) <= (other.objective.high or 0.0) <= 100
        assert -100 <= (other.behind.low or 0.0) <= (other.behind.high or 0.0) <= 100
