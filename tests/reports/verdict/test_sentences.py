"""The sentences that explain a verdict say what was declared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.declare import DESIRABILITY, Candidate, Constraint, Desirability, Grid, Objective, Sampling
from harness.records.values import OBJECTIVE
from reports.gates.decision import headline
from reports.read.run import Run, load_run
from reports.statistics.intervals import Estimate, spans_range
from reports.verdict.recommendation import Recommendation
from reports.verdict.recommending import recommend
from reports.verdict.sentences import objective_words, sweep_evidence, sweep_reasons
from tests.reports import synthetic
from tests.reports.synthetic import Place
from tests.rows import ROWS


def test_the_default_objective_is_written_as_a_formula() -> None:
    assert objective_words(Objective(), ROWS) == (
        "Objective of an image: CLIP score − 100 × Clipped pixels beyond 0.05 − 5 × Off-colour images.")


def test_constraints_and_desirabilities_are_named() -> None:
    parts = (Desirability(metric="clip_score", worst=20, best=30), Desirability(metric="saturation", worst=0.9, best=0.4))
    of = Objective(maximise=DESIRABILITY, penalties=(), desirabilities=parts,
                   constraints=(Constraint(metric="clipped_share", at_most=0.1),))
    assert objective_words(of, ROWS) == (
        "Objective of an image: 100 × the weighted geometric mean of the desirabilities of CLIP score and Saturation; a cell "
        "must keep Clipped pixels at most 0.1.")


def planted(folder: Path, prefer: dict[str, str], few: float) -> Run:
    """Two samplers at 4 and 16 steps and CFG 3 and 7, all alike but for the noise, and a candidate of 4 steps at CFG 1 alone,
    which is better by `few`."""
    many = tuple(Candidate(name=f"{sampler} {steps}", model="zoo:photo", axes={"steps": float(steps)},
                           sampling=Sampling(sampler=sampler, steps=steps)) for sampler in ("euler", "heun") for steps in (4, 16))
    own = Candidate(name="few", model="zoo:photo", axes={"steps": 4.0}, sampling=Sampling(sampler="lcm", steps=4, guidance=1))
    suite = synthetic.merge_suite(
        name="own", candidates=(*many, own), baseline="euler 16", gates=(), objective=Objective(penalties=(), prefer=prefer),
        grid=Grid(prompts=synthetic.prompts(), seeds=(1,), guidance_scales=(3.0, 7.0), width=32, height=32))
    return load_run(synthetic.write_run(folder, suite, lambda place: score(place, few)))


def score(place: Place, few: float) -> dict[str, float]:
    return {"clip_score": 30.0 + (few if place.guidance == 1 else 0.0) + place.rng.normal(0, 6), "clipped_share": 0.02,
            "saturation": 0.4, "palette_drift": 0.0}


@pytest.mark.parametrize("prefer", [{"steps": "lowest"}, {"guidance": "lowest"}])
def test_of_equally_few_steps_the_better_one_is_picked_whatever_its_guidance(tmp_path: Path, prefer: dict[str, str]) -> None:
    run = planted(tmp_path, prefer, few=6.0)
    rec = recommend(run)
    assert all(cell.tied for cell in rec.cells)
    assert (rec.pick, rec.guidance) == ("few", 1.0)
    assert "guidance scales of their own" in rec.rule


def test_where_every_cell_is_tied_it_says_that_nothing_was_decided_and_what_was_preferred(tmp_path: Path) -> None:
    run = planted(tmp_path, {"steps": "lowest"}, few=6.0)
    rec = recommend(run)
    assert "all 9 cells are tied: which of them is best was not decided" in rec.evidence
    assert "the lowest steps (4)" in rec.evidence
    assert rec.evidence in headline(run, rec, []).sentence
    assert "did about as well" not in rec.evidence


def test_the_pick_is_not_among_those_that_did_as_well(merge_run: Run, merge_verdict: Recommendation) -> None:
    only = replace(merge_verdict, tied_candidates=(str(merge_verdict.pick),), tied_guidances=(8.0,))
    assert "(" not in sweep_evidence(merge_run, only).split("used to choose, ")[1]


def test_what_clip_score_alone_would_pick_is_explained_by_guidance_only_where_it_asks_for_more(
        merge_run: Run, merge_verdict: Recommendation) -> None:
    def said(alone: tuple[str, float], at_pick: float) -> str:
        changed = replace(merge_verdict, clip_alone=alone, clip_alone_at_pick=at_pick)
        return next(reason for reason in sweep_reasons(merge_run, changed) if "CLIP score alone" in reason)

    pick, scale = str(merge_verdict.pick), float(merge_verdict.guidance or 0)
    assert "tend to rise with guidance" in said(("alpha=1", 12.0), 12.0)
    assert "tend to rise" not in said(("alpha=1", 1.0), scale)
    assert "would win too" in said((pick, scale), scale)


def test_a_candidate_of_one_scale_is_not_said_to_be_used_at_another(tmp_path: Path) -> None:
    run = planted(tmp_path, {"steps": "lowest"}, few=6.0)
    rec = replace(recommend(run), clip_alone=("euler 4", 3.0), clip_alone_at_pick=1.0)
    assert not any("would be used" in reason for reason in sweep_reasons(run, rec))


@pytest.mark.parametrize("low, high, spans", [(-647.0, 600.0, True), (-647.0, 10.0, False), (-10.0, 10.0, False)])
def test_an_interval_beyond_all_possible_differences_says_nothing(low: float, high: float, spans: bool) -> None:
    of = Estimate(mean=-23.0, low=low, high=high, prompts=3, pairs=3)
    assert spans_range(of, replace(OBJECTIVE, low=0.0, high=100.0)) == spans
    assert not spans_range(of, replace(OBJECTIVE, low=None, high=None))


def test_how_far_the_pick_is_from_the_best_cannot_be_said_from_such_an_interval(
        merge_run: Run, merge_verdict: Recommendation) -> None:
    wide = Estimate(mean=-23.0, low=-9e9, high=9e9, prompts=3, pairs=3)
    cells = tuple(replace(c, behind=wide) if (c.candidate, c.guidance) == (merge_verdict.pick, merge_verdict.guidance) else
                  replace(c, behind=replace(c.behind, mean=0.0)) if c.candidate == "alpha=0" and c.guidance == 1.0 else c
                  for c in merge_verdict.cells)
    said = " ".join(sweep_reasons(merge_run, replace(merge_verdict, cells=cells)))
    assert "cannot be said from 3 prompts" in said


@pytest.mark.parametrize(("word", "low", "high"), [("worse", -2.0, -1.0), ("better", 1.0, 2.0)])
def test_the_word_gives_the_direction_so_the_interval_has_no_sign(merge_run: Run, merge_verdict: Recommendation, word: str,
                                                                   low: float, high: float) -> None:
    beside = next(c for c in merge_verdict.comparisons if c.value == "objective" and c.other_guidance == c.guidance)
    measured = replace(beside.difference, mean=(low + high) / 2, low=low, high=high)
    against = replace(beside, word=word, difference=measured)
    evidence = sweep_evidence(merge_run, replace(merge_verdict, comparisons=(against,)))
    assert f"{word} than " in evidence
    assert " by 1.50 [1.00, 2.00]" in evidence
