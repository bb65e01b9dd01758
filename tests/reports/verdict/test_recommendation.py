"""The verdict on runs whose truth was planted: what is best, what is tied, what is not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.declare import Candidate, Grid, Sampling
from harness.records import Journal
from reports.gates import judge
from reports.gates.decision import WORSE, headline
from reports.read.current_records import Gap
from reports.read.run import Run, load_run
from reports.statistics.intervals import Estimate, holm, paired_difference
from reports.statistics.tied_set import from_best
from reports.verdict.recommendation import Recommendation
from reports.verdict.recommending import _shaky, recommend
from tests.reports import synthetic
from tests.rows import row


def verdict_of(folder: Path, **made: object) -> Recommendation:
    return recommend(load_run(synthetic.write_run(folder, **made)))  # type: ignore[arg-type]


def test_the_planted_optimum_is_found(merge_verdict: Recommendation) -> None:
    assert merge_verdict.pick == "alpha=0.45"
    assert merge_verdict.guidance in (5.0, 8.0)


def test_the_gain_over_both_parents_is_confirmed_on_the_other_prompts(merge_verdict: Recommendation) -> None:
    told = {c.other: c for c in merge_verdict.comparisons
            if c.value == "objective" and c.other_guidance == merge_verdict.guidance}
    assert {name: c.word for name, c in told.items()} == {"alpha=0": "better", "alpha=1": "better"}
    assert all(c.split == "confirm" and c.difference.prompts == 4 for c in told.values())


@pytest.mark.parametrize(("own", "scales"), [(1.0, {1.0}), ((1.0, 2.0), {1.0, 2.0})])
def test_a_control_of_other_scales_is_compared_at_its_counterpart_or_where_it_is_best(
        tmp_path: Path, own: float | tuple[float, ...], scales: set[float]) -> None:
    """The only scale of the baseline is the counterpart of the pick's; of two, neither is."""
    first, *others = synthetic.merge_suite().candidates
    suite = synthetic.merge_suite(candidates=(replace(first, sampling=Sampling(guidance=own)), *others))
    run = load_run(synthetic.write_run(tmp_path, suite))
    rec = recommend(run)
    assert rec.pick == "alpha=0.45"
    [compared] = [c for c in rec.comparisons if (c.other, c.value) == ("alpha=0", "objective")]
    assert compared.word == "better"
    assert compared.other_guidance in scales
    assert f"better than alpha 0 (parent A) at CFG {compared.other_guidance:g} " in rec.evidence
    assert headline(run, rec, []).decision == "ship"


def test_the_sentence_says_which_split_each_part_is_from(merge_verdict: Recommendation) -> None:
    assert "; on the prompts used to choose, " in merge_verdict.sentence
    assert "; on 4 held-out confirm prompts it is better than" in merge_verdict.sentence


def test_guidance_is_not_chosen_by_clip_score_alone(merge_verdict: Recommendation) -> None:
    assert merge_verdict.clip_alone_at_pick == 12.0
    assert merge_verdict.guidance != 12.0
    assert any("CLIP score alone" in reason and "at CFG 12" in reason for reason in merge_verdict.reasons)


def test_the_tied_set_holds_the_best_cell_and_not_the_far_ones(merge_verdict: Recommendation) -> None:
    tied = {(c.candidate, c.guidance) for c in merge_verdict.cells if c.tied}
    assert ("alpha=0.45", 8.0) in tied
    assert not any(name in ("alpha=0", "alpha=1") for name, _ in tied)
    assert not any(guidance in (1.0, 12.0) for _, guidance in tied)


def test_an_a_a_run_ties_every_candidate_and_claims_no_gain(tmp_path: Path) -> None:
    rec = verdict_of(tmp_path, suite=synthetic.merge_suite(), truth=synthetic.level)
    assert len(rec.tied_candidates) == 7
    assert all(c.word == "tied" for c in rec.comparisons)
    assert {c.other for c in rec.comparisons} == {"alpha=0", "alpha=1"}


def test_a_pick_among_ties_is_no_parent_and_the_tied_parent_is_named(tmp_path: Path) -> None:
    rec = verdict_of(tmp_path, suite=synthetic.merge_suite(), truth=synthetic.level)
    assert rec.pick == "alpha=0.45"
    assert any("alpha 0 (parent A) is tied too" in reason for reason in rec.reasons)


def test_a_parent_that_wins_is_kept(tmp_path: Path) -> None:
    def downhill(place: synthetic.Place) -> dict[str, float]:
        values = synthetic.level(place)
        return {**values, "clip_score": values["clip_score"] - 20 * place.x}

    run = load_run(synthetic.write_run(tmp_path, synthetic.merge_suite(gates=()), truth=downhill))
    assert headline(run, recommend(run), []).text == "Keep alpha 0 (parent A) at CFG 8"


def test_adapter_weights_are_swept_against_the_model_without_the_adapter(tmp_path: Path) -> None:
    rec = verdict_of(tmp_path, suite=synthetic.adapter_suite())
    assert (rec.pick, rec.axis) == ("weight=0.5", "weight")
    assert "weight 0 (without the adapter)" in rec.sentence


def test_a_pick_that_loses_on_the_confirm_prompts_is_not_shipped(merge_run: Run) -> None:
    run = replace(merge_run, images=merge_run.images.copy())
    held_out = (run.images["split"] == "confirm") & (run.images["candidate"] == "alpha=0.45")
    run.images.loc[held_out, "objective"] -= 30
    said = headline(run, recommend(run), [])
    assert (said.decision, said.text) == (
        WORSE, "Do not ship alpha 0.45 at CFG 8: it is worse than alpha 0 (parent A) and alpha 1 (parent B)")


def test_one_select_prompt_gives_the_best_mean_and_says_there_is_no_interval(tmp_path: Path) -> None:
    grid = Grid(prompts=synthetic.prompts(1, 0), seeds=(1,), guidance_scales=(3.0, 8.0))
    rec = verdict_of(tmp_path, suite=synthetic.merge_suite(grid=grid))
    assert len([c for c in rec.cells if c.tied]) == 1
    assert any("no interval exists" in c for c in rec.caveats)
    assert any("nothing was confirmed" in c for c in rec.caveats)


def test_a_cell_that_lacks_images_is_not_ranked_and_is_named(merge_run: Run) -> None:
    run = replace(merge_run, images=merge_run.images.copy())
    gone = (run.images["candidate"] == "alpha=0.45") & (run.images["guidance"] == 8.0) & (run.images["prompt"] == "p03")
    run.images.loc[gone, "objective"] = float("nan")
    rec = recommend(run)
    assert not any(c.complete for c in rec.cells if (c.candidate, c.guidance) == ("alpha=0.45", 8.0))
    assert any("Not ranked" in c and "alpha 0.45 at CFG 8" in c for c in rec.caveats)


def test_an_empty_journal_gives_no_recommendation_and_a_reason(tmp_path: Path) -> None:
    folder = synthetic.write_run(tmp_path, synthetic.merge_suite(grid=synthetic.SMALL))
    Journal(folder / "journal.jsonl").path.unlink()
    rec = recommend(load_run(folder))
    assert rec.pick is None
    assert "not sampled yet" in rec.sentence


def test_a_failed_candidate_is_a_caveat_with_its_error_made_visible(tmp_path: Path) -> None:
    rec = verdict_of(tmp_path, suite=synthetic.merge_suite(grid=synthetic.SMALL), extra=synthetic.failing("alpha=1"))
    said = next(c for c in rec.caveats if "OutOfMemoryError" in c)
    assert "\x1b" not in said
    assert "\\x1b[31m" in said


@pytest.mark.parametrize("phrase", ["one-standard-error rule", "lowest guidance scale", "middle of the tied range",
                                    "a smooth surface through all cells decides", "shown to meet the constraints"])
def test_the_rule_is_stated(merge_verdict: Recommendation, phrase: str) -> None:
    assert phrase in merge_verdict.rule


def test_candidates_without_an_axis_are_ranked_by_the_objective(merge_run: Run, tmp_path: Path) -> None:
    suite = merge_run.suite
    named = tuple(Candidate(name=f"model {i}", model=f"zoo:{i}", axes={"alpha": c.axes["alpha"], "is": "x"} if i else
                                      {"is": "y"}) for i, c in enumerate(suite.candidates))
    rec = verdict_of(tmp_path, suite=synthetic.merge_suite(candidates=named, baseline="model 0"))
    assert rec.axis is None
    assert rec.pick in ("model 0", "model 3")  # both were planted at the peak


def test_the_smooth_surface_decides_and_says_why(merge_verdict: Recommendation) -> None:
    said = next(r for r in merge_verdict.reasons if r.startswith("On the smooth surface through all cells the pick is "))
    assert f"alpha 0.45 at CFG {merge_verdict.guidance:g}: " in said


def test_two_candidates_make_no_surface(tmp_path: Path) -> None:
    full = synthetic.merge_suite()
    rec = verdict_of(tmp_path, suite=synthetic.merge_suite(candidates=(full.candidates[0], full.candidates[-1])))
    assert not any("smooth surface" in r for r in rec.reasons)


def test_the_tied_set_is_that_of_all_cells_together(merge_run: Run, merge_verdict: Recommendation) -> None:
    table = merge_run.images[merge_run.images["split"] == "select"]
    wide = table.pivot_table(index="prompt", columns=["candidate", "guidance"], values="objective")
    found = from_best(wide.to_numpy())
    names, scales = wide.columns.get_level_values(0), wide.columns.get_level_values(1)
    expected = {(str(n), float(g)) for n, g, tied in zip(names, scales, found.tied, strict=True) if tied}
    assert {(c.candidate, c.guidance) for c in merge_verdict.cells if c.tied} == expected


def test_the_controls_are_one_family(merge_run: Run, merge_verdict: Recommendation) -> None:
    held_out = merge_run.images[merge_run.images["split"] == "confirm"]
    told = [c for c in merge_verdict.comparisons if c.value == "objective" and c.other_guidance == merge_verdict.guidance]
    at = held_out[held_out["guidance"] == merge_verdict.guidance]
    mine = at[at["candidate"] == merge_verdict.pick]
    plain = [paired_difference(mine, at[at["candidate"] == c.other], row("objective"), by=("prompt", "seed")) for c in told]
    assert [c.difference for c in told] == list(holm(plain, row("score")))


def test_a_verdict_that_one_prompt_decides_is_a_caveat(tmp_path: Path) -> None:
    grid = Grid(prompts=synthetic.prompts(8, 9), seeds=(1,), guidance_scales=(3.0, 5.0), width=32, height=32)
    run = load_run(synthetic.write_run(tmp_path, synthetic.merge_suite(grid=grid), truth=synthetic.level))
    pick = recommend(run).pick
    held_out = (run.images["split"] == "confirm") & (run.images["candidate"] == pick)
    gains = dict(zip([f"p{i:02d}" for i in range(8, 17)], (2, 2.2, 1.8, 2.1, 1.9, 2, 2, 2.05, 20), strict=True))
    run.images.loc[held_out, "objective"] += run.images.loc[held_out, "prompt"].map(gains)
    rec = recommend(run)
    assert next(c.word for c in rec.comparisons if c.value == "objective") == "tied"
    assert any("few prompts" in c and "alpha 0.45 and alpha 0" in c and "(better)" in c for c in rec.caveats)


def test_sixteen_copies_of_one_prompt_are_one_prompt(tmp_path: Path) -> None:
    copies = synthetic.prompts(8, 8, text=lambda i: "a red ball")
    grid = Grid(prompts=copies, seeds=(1,), guidance_scales=(3.0,), width=32, height=32)
    run = load_run(synthetic.write_run(tmp_path, synthetic.merge_suite(grid=grid)))
    rec = recommend(run)
    assert all(c.difference.low is None and c.difference.prompts == 1 for c in rec.comparisons)
    assert any("p00 = p01" in c for c in rec.caveats)
    assert {v.status for v in judge(run, rec) if v.value == "clip_score"} == {"not_measured"}


@pytest.mark.parametrize("word, warned", [("better", True), ("tied", False)])
def test_the_bootstrap_contradicts_only_the_word_that_is_shown(
        merge_run: Run, merge_verdict: Recommendation, word: str, warned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    open_ = Estimate(mean=1.0, low=-1.0, high=3.0, prompts=9, pairs=9)
    monkeypatch.setattr("reports.verdict.recommending.bootstrap_interval", lambda *_: open_)
    shown = next(c for c in merge_verdict.comparisons if c.value == "objective" and c.other_guidance == c.guidance)
    compared = replace(shown, word=word, difference=replace(shown.difference, prompts=9))
    assert bool(_shaky(merge_run, str(merge_verdict.pick), (compared,))) == warned


@pytest.mark.parametrize(("by_definition", "way"), [
    (True, "maximise a value that every candidate has"), (False, "run the suite again")])
def test_where_one_candidate_alone_has_an_objective_the_reason_of_the_others_and_what_to_do_are_said(
        merge_run: Run, by_definition: bool, way: str) -> None:
    alone = merge_run.images.assign(objective=merge_run.images["objective"].where(merge_run.images["candidate"] == "alpha=0.45"))
    others = [c.name for c in merge_run.suite.candidates if c.name != "alpha=0.45"]
    gaps = tuple(Gap(candidate=name, value="objective", count=4, why="no psnr_db", expected=by_definition) for name in others)
    rec = recommend(replace(merge_run, images=alone, missing=gaps))
    assert rec.pick is None
    assert "only alpha 0.45 has an objective" in rec.sentence
    assert "alpha 0: no psnr_db" in rec.sentence
    assert rec.sentence.endswith(f"; {way}.")
