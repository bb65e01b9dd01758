"""The loudest sentence claims no more than its interval, its gates and its images: in every combination, wherever it stands."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from rich.console import Console

from harness.declare import Candidate, Gate, Grid, Suite
from reports.analysis import load_run as analysed
from reports.compare.runs import compare
from reports.compare.views import markdown as compared_markdown
from reports.compare.views import page as compared_page
from reports.gates import judge
from reports.gates.decision import (
    BEST_GUESS,
    GATES_FAILED,
    GATES_OPEN,
    INCOMPLETE,
    KEEP,
    NOT_COMPARED,
    NOTHING,
    SHIP,
    WORSE,
    Facts,
    decide,
    headline,
)
from reports.page.build import render
from reports.page.summary import closing_lines, markdown, terminal_table
from reports.read.run import Run, load_run
from reports.verdict.recommending import recommend
from tests.reports import synthetic

STATUSES = [(), ("passed",), ("passed", "failed"), ("passed", "inconclusive"), ("not_measured",), ("failed", "not_measured")]
WORDS = [(), ("better",), ("better", "better"), ("better", "tied"), ("tied",), ("better", "worse"), ("worse",),
         ("better", "not measured"), ("not measured",)]
ALL = [Facts(pick=pick, statuses=statuses, missing=missing, words=words, baseline=baseline, held_out=held_out, no_loss=no_loss)
       for pick, statuses, missing, words, baseline, held_out, no_loss in product(
           (True, False), STATUSES, (True, False), WORDS, (True, False), (True, False), (True, False))]


def test_a_pick_is_shipped_only_where_everything_speaks_for_it() -> None:
    shipped = [of for of in ALL if decide(of) == SHIP]
    assert shipped
    for of in shipped:
        assert of.pick
        assert set(of.statuses) <= {"passed"}
        assert not of.missing
        assert not of.baseline
        assert of.held_out
        assert of.words
        assert set(of.words) == {"better"} or (of.no_loss and set(of.words) <= {"better", "tied"})


def test_a_failed_gate_is_said_whatever_else_is_known() -> None:
    assert {decide(of) for of in ALL if of.pick and "failed" in of.statuses} == {GATES_FAILED}
    assert {decide(of) for of in ALL if of.pick and {*of.statuses} & {"inconclusive", "not_measured"}
            and "failed" not in of.statuses} == {GATES_OPEN}
    assert {decide(of) for of in ALL if not of.pick} == {NOTHING}


SMALL = Grid(prompts=synthetic.prompts(4, 4), seeds=(1, 2), guidance_scales=(3.0,), width=32, height=32)
GOOD = (Gate(value="clip_score", at_least=10.0),)


def plain() -> Suite:
    """Two checkpoints, of which the second is the better one."""
    two = (Candidate(name="base", model="zoo:photo", axes={"is": "base"}),
           Candidate(name="new", model="zoo:anime", axes={"is": "new"}))
    return synthetic.merge_suite(name="plain", candidates=two, baseline="base", grid=SMALL, gates=GOOD)


SUITES: dict[str, Callable[[], Suite]] = {
    "alphas": lambda: synthetic.merge_suite(grid=SMALL, gates=GOOD),
    "weights": lambda: replace(synthetic.adapter_suite(), grid=SMALL, gates=GOOD),
    "checkpoints": plain,
    "precision": lambda: replace(synthetic.quantization_suite(), grid=SMALL, gates=(Gate(
        value="clip_score", not_worse_than="baseline", margin=5.0),)),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A run of each kind of suite whose pick is to be shipped."""
    made = {}
    for kind, suite in SUITES.items():
        run = load_run(synthetic.write_run(tmp_path_factory.mktemp(kind) / kind, suite()))
        if kind == "checkpoints":
            run = moved(run, "new", 9.0)
        if kind == "precision":
            quick = replace(run.latency["int8"], seconds={"total": (0.09, 0.091)})
            run = replace(run, latency={**run.latency, "int8": quick})
        made[kind] = run
    return made


def moved(run: Run, name: str, points: float, split: str = "") -> Run:
    """The run where a candidate scores so many points more, in one split or in both."""
    images = run.images.copy()
    hit = (images["candidate"] == name) & (images["split"].isin([split] if split else ["select", "confirm"]))
    images.loc[hit, ["objective", "clip_score"]] += points
    return replace(run, images=images)


def noisy(run: Run, name: str) -> Run:
    """The run where a candidate's held-out images say nothing: some far better, some far worse."""
    images = run.images.copy()
    hit = (images["candidate"] == name) & (images["split"] == "confirm")
    images.loc[hit, "objective"] += images.loc[hit, "prompt"].map(lambda p: 60.0 if int(p[1:]) % 2 else -60.0)
    return replace(run, images=images)


def unsampled(run: Run, name: str) -> Run:
    """The run where the last images of a candidate are still to come."""
    from reports.read.current_records import Gap

    images = run.images.drop(run.images.index[run.images["candidate"] == name][-2:]).reset_index(drop=True)
    return replace(run, images=images, missing=(*run.missing, Gap(candidate=name, value="image", count=2, why="not sampled yet")))


def gated(run: Run, **limit: float) -> Run:
    return replace(run, suite=replace(run.suite, gates=(*run.suite.gates, Gate(value="clip_score", **limit))))  # type: ignore[arg-type]


def pick_of(run: Run) -> str:
    pick = recommend(run).pick
    assert pick is not None
    return pick


CASES: dict[str, tuple[Callable[[Run], Run], str]] = {
    "as it is": (lambda run: run, SHIP),
    "a gate failed": (lambda run: gated(run, at_least=90), GATES_FAILED),
    "a gate is open": (lambda run: gated(run, at_least=float(run.images.loc[
        (run.images["candidate"] == pick_of(run)) & (run.images["split"] == "confirm"), "clip_score"].mean())), GATES_OPEN),
    "a gate on nothing": (lambda run: replace(run, suite=replace(run.suite, gates=(
        Gate(value="novelty", at_least=1),))), GATES_OPEN),
    "images missing": (lambda run: unsampled(run, next(
        c.name for c in run.suite.candidates if c.name not in (pick_of(run), run.suite.baseline))
        if len(run.suite.candidates) > 2 else run.suite.baseline), INCOMPLETE),
    "worse": (lambda run: replace(moved(run, pick_of(run), -40, "confirm"), suite=replace(run.suite, gates=())), WORSE),
    "tied": (lambda run: replace(noisy(run, pick_of(run)), suite=replace(run.suite, gates=())), BEST_GUESS),
    "no held-out prompts": (lambda run: replace(run, images=run.images[run.images["split"] == "select"], suite=replace(
        run.suite, gates=(), grid=replace(run.suite.grid, prompts=run.suite.grid.prompts[:4]))), BEST_GUESS),
    "one held-out prompt": (lambda run: replace(run, images=run.images[run.images["prompt"] < "p05"], suite=replace(
        run.suite, gates=(), grid=replace(run.suite.grid, prompts=run.suite.grid.prompts[:5]))), NOT_COMPARED),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", SUITES)
def test_every_kind_of_suite_decides_alike(runs: dict[str, Run], kind: str, case: str) -> None:
    change, decision = CASES[case]
    run = change(runs[kind])
    rec = recommend(run)
    assert headline(run, rec, judge(run, rec)).decision == decision


@pytest.mark.parametrize("case", [case for case, (_, decision) in CASES.items() if decision != SHIP])
@pytest.mark.parametrize("kind", SUITES)
def test_nothing_is_shipped_in_any_text_where_the_decision_is_another(runs: dict[str, Run], kind: str, case: str) -> None:
    run = CASES[case][0](runs[kind])
    rec = recommend(run)
    verdicts = judge(run, rec)
    text = io.StringIO()
    Console(file=text, width=400).print(terminal_table(run, rec, verdicts))
    texts = [text.getvalue(), markdown(run, rec, verdicts), *closing_lines(run, rec, verdicts, Path("x/report.html"))]
    assert not any("Ship " in said or "promote:" in said for said in texts)
    said = headline(run, rec, verdicts)
    assert all(said.text.replace("\\", "") in text.replace("\\", "") for text in texts[:3])


def test_page_notebook_and_comparison_have_the_same_headline(tmp_path: Path) -> None:
    suite = synthetic.merge_suite(grid=SMALL, gates=(Gate(value="clip_score", at_least=90.0),))
    folder = synthetic.write_run(tmp_path / "run", suite)
    run = analysed(folder)
    of = compare(load_run(folder), load_run(folder))
    assert run.headline.decision == GATES_FAILED
    page = render(run, run.recommendation, run.verdicts)
    for text in (page, run._repr_html_(), repr(run), compared_page(of), compared_markdown(of)):
        assert "1 gate failed" in text
        assert "Ship " not in text.partition("<script")[0]


def test_the_baseline_is_kept_and_says_so(runs: dict[str, Run]) -> None:
    run = moved(runs["checkpoints"], "new", -30.0)
    rec = recommend(run)
    said = headline(run, rec, [])
    assert (said.decision, said.text) == (KEEP, "Keep base (baseline) at CFG 3")


def test_a_gate_against_the_baseline_does_not_keep_the_baseline_from_staying(runs: dict[str, Run]) -> None:
    run = moved(runs["checkpoints"], "new", -30.0)
    gate = Gate(value="clip_score", not_worse_than="baseline", margin=1)
    run = replace(run, suite=replace(run.suite, gates=(*run.suite.gates, gate)))
    rec = recommend(run)
    (verdict,) = [v for v in judge(run, rec) if v.other == "baseline"]
    said = headline(run, rec, judge(run, rec))
    assert (verdict.status, said.decision) == ("not_measured", KEEP)
    assert "1 gate compared nothing" in said.rest


@pytest.mark.parametrize("gates", [(), GOOD])
def test_nothing_is_kept_where_nothing_was_compared(runs: dict[str, Run], gates: tuple[Gate, ...]) -> None:
    run = runs["checkpoints"]
    alone = tuple(c for c in run.suite.candidates if c.name == "base")
    run = replace(run, suite=replace(run.suite, candidates=alone, gates=gates),
                  images=run.images[run.images["candidate"] == "base"].reset_index(drop=True))
    rec = recommend(run)
    said = headline(run, rec, judge(run, rec))
    assert said.decision == NOT_COMPARED
    assert "base (baseline) at CFG 3 is the only candidate" in said.text


def test_a_parent_that_is_as_good_at_its_own_guidance_stands_against_the_claim(merge_run: Run) -> None:
    """At the pick's guidance the merge is better; at a guidance that suits the parent it is not."""
    images = merge_run.images.copy()
    own = images[(images["candidate"] == "alpha=0") & (images["guidance"] == 3.0)]
    pick = images[(images["candidate"] == "alpha=0.45") & (images["guidance"] == 8.0)].set_index(["prompt", "seed"])["objective"]
    images.loc[own.index, "objective"] = [pick[place] for place in zip(own["prompt"], own["seed"], strict=True)]
    run = replace(merge_run, images=images)
    said = headline(run, recommend(run), [])
    assert said.decision == BEST_GUESS
    assert "alpha 0 (parent A) at its own best CFG 3" in said.text


def test_the_first_promotion_is_not_blocked_by_a_gate_on_what_was_promoted(runs: dict[str, Run]) -> None:
    gate = Gate(value="clip_score", not_worse_than="promoted", margin=1)
    run = replace(runs["alphas"], suite=replace(runs["alphas"].suite, gates=(gate,)))
    rec = recommend(run)
    said = headline(run, rec, judge(run, rec))
    assert said.decision == SHIP
    assert "nothing was promoted yet" in said.rest


def test_missing_images_are_said_beside_the_headline(runs: dict[str, Run]) -> None:
    run = unsampled(gated(runs["alphas"], at_least=90), "alpha=1")
    rec = recommend(run)
    said = headline(run, rec, judge(run, rec))
    assert said.decision == GATES_FAILED
    assert said.rest.startswith("2 images missing; ")
    assert any("not sampled yet" in caveat for caveat in rec.caveats)


def unoffered(run: Run, *names: str) -> Run:
    """The run on a CPU that does not offer some of the candidates."""
    from reports.read.current_records import Gap

    images = run.images[~run.images["candidate"].isin(names)].reset_index(drop=True)
    why = {name: f"{name} is not offered on cpu: no kernels" for name in names}
    kept = {name: timed for name, timed in run.latency.items() if name not in names}
    gaps = tuple(Gap(candidate=name, value="image", count=16, why=why[name]) for name in names)
    return replace(run, images=images, latency=kept, missing=(*run.missing, *gaps), head={**run.head, "not_offered": why},
                   suite=replace(run.suite, gates=()))


def untimed(run: Run) -> Run:
    """The run whose machine was far slower while the baseline was timed."""
    slow = replace(run.latency["fp32"], yardstick=(0.03,) * 5)
    return replace(run, latency={**run.latency, "fp32": slow}, suite=replace(run.suite, gates=()))


@pytest.mark.parametrize(("kind", "change", "claims", "disclaimed"), [
    ("precision", lambda run: unoffered(run, "int8"), ["int8 not run (not offered on cpu: no kernels)"], []),
    ("precision", lambda run: unoffered(run, "bf16", "int8", "int4"),
     ["bf16, int8 and int4 not run (not offered on cpu: no kernels)", "nothing to compare"], ["nothing of equal quality"]),
    ("precision", untimed, ["speed was not compared"], ["measurably faster", "at equal speed"]),
    ("alphas", lambda run: unoffered(run, "alpha=0.8"), ["alpha 0.8 not run (not offered on cpu: no kernels)"], []),
])
def test_every_headline_says_what_it_has_not_seen(runs: dict[str, Run], kind: str, change: Callable[[Run], Run],
                                                  claims: list[str], disclaimed: list[str]) -> None:
    run = change(runs[kind])
    rec = recommend(run)
    text = io.StringIO()
    Console(file=text, width=400).print(terminal_table(run, rec, []))
    texts = [headline(run, rec, []).sentence, text.getvalue(), markdown(run, rec, []).replace("\\", ""),
             closing_lines(run, rec, [], Path("x/report.html"))[0]]
    for said in texts:
        assert [claim for claim in claims if claim not in said] == []
        assert [claim for claim in disclaimed if claim in said.partition("Rule: ")[0]] == []
