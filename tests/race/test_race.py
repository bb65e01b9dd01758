"""A race asks for few images and stays with them: a restart goes the same way, and without the budget only the rest is sampled.

Images are painted here, not sampled: what a race asks for does not depend on how they are made. test_plugin.py runs a real one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from harness import Gate, Suite, alpha_sweep, sampling_sweep
from harness.check import problems
from harness.declare import Budget, Candidate, Merge, Search
from harness.declare.sampling import Sampling
from harness.race.interim_looks import Rectangle
from harness.race.race import Race
from harness.records import Dropped, Finished, Look, standing_looks
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from harness.session.suite_session import SuiteSession
from reports import load_run
from reports.verdict.sentences import race_reasons
from tests.painted import paint_runs
from tests.race.painted import (
    ENDS,
    LOSES,
    NAMES,
    SCALES,
    DeclaredBench,
    go,
    images,
    looks,
    pictures,
    scripted,
    session_options,
    suite,
)


@pytest.fixture(autouse=True)
def painted(monkeypatch: pytest.MonkeyPatch) -> None:
    paint_runs(monkeypatch, DeclaredBench)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setattr("harness.race.elimination.confirm_plan", lambda *_: (NAMES, SCALES))
    return lambda *steps: monkeypatch.setattr("harness.race.elimination.judge_look", scripted(*steps))


def test_what_loses_is_sampled_no_further(tmp_path: Path, judged: Callable[..., None]) -> None:
    judged(LOSES, ENDS)
    go(tmp_path, suite())
    assert [(look.stage, len(look.candidates), look.prompts, look.images) for look in looks(tmp_path)] == [
        ("select", 3, ("star",), 12), ("select", 2, ("car",), 20), ("confirm", 3, ("fish", "cup"), 26 + 6)]
    assert images(tmp_path) == {"alpha=0": 12, "alpha=0.5": 12, "alpha=1": 8}


def test_a_dropped_candidate_is_no_gap_and_keeps_its_row(tmp_path: Path, judged: Callable[..., None]) -> None:
    judged(LOSES, ENDS)
    go(tmp_path, suite())
    run = load_run(tmp_path / "runs" / "tiny")
    assert [gap for gap in run.missing if gap.value == "image"] == []
    from reports.verdict.race_summary import exit_words, spent

    assert exit_words(run) == {"alpha=1": "dropped at interim look 1, −3.10 [−5.00, −1.20]"}
    total = spent(run)
    assert total is not None
    assert total.summary == "32 images in 3 interim looks (2 select, 1 confirm), 53 % of the 60 of the whole grid."


def test_a_restarted_race_samples_and_writes_nothing_and_says_the_same(tmp_path: Path, judged: Callable[..., None]) -> None:
    judged(LOSES, ENDS)
    go(tmp_path, suite())
    before, made = looks(tmp_path), pictures(tmp_path)
    lines = (tmp_path / "runs" / "tiny" / "journal.jsonl").read_text().count('"kind":"look"')
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.png")}
    go(tmp_path, suite())
    assert looks(tmp_path) == before
    assert (tmp_path / "runs" / "tiny" / "journal.jsonl").read_text().count('"kind":"look"') == lines
    assert pictures(tmp_path) == made
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.png")} == stamps


@pytest.mark.parametrize("stop_after", [2, 4, 8])
def test_a_race_that_was_stopped_ends_like_an_unbroken_one(tmp_path: Path, judged: Callable[..., None], stop_after: int) -> None:
    judged(LOSES, ENDS)
    go(tmp_path / "whole", suite())
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "broken", suite(), stop_after=stop_after)
    go(tmp_path / "broken", suite())
    assert looks(tmp_path / "broken") == looks(tmp_path / "whole")
    assert pictures(tmp_path / "broken") == pictures(tmp_path / "whole")


def test_without_the_budget_only_the_rest_is_sampled_and_nothing_of_the_race_is_left(tmp_path: Path,
                                                                                      judged: Callable[..., None]) -> None:
    judged(LOSES, ENDS)
    go(tmp_path / "raced", suite())
    for root in ("raced", "whole"):
        run = SuiteRun(suite(None), "s.py", Options(root=tmp_path, runs=tmp_path / root / "runs"), Silent())
        done = [run.candidate(c) for c in run.suite.candidates]
        run.close()
        sampled = {d.candidate: (d.sampled, d.reused) for d in done if isinstance(d, Finished)}
        assert sampled == ({"alpha=0": (8, 12), "alpha=0.5": (8, 12), "alpha=1": (12, 8)} if root == "raced" else
                           dict.fromkeys(NAMES, (20, 0)))
    assert pictures(tmp_path / "raced") == pictures(tmp_path / "whole")
    assert load_run(tmp_path / "raced" / "runs" / "tiny").looks == ()


def test_after_a_whole_run_a_race_samples_nothing_and_counts_what_it_asks_for(tmp_path: Path, judged: Callable[..., None],
                                                                              ) -> None:
    judged(LOSES, ENDS)
    run = SuiteRun(suite(None), "s.py", Options(root=tmp_path, runs=tmp_path / "runs"), Silent())
    for candidate in run.suite.candidates:
        run.candidate(candidate)
    run.close()
    made = pictures(tmp_path)
    go(tmp_path, suite())
    assert pictures(tmp_path) == made
    assert len(load_run(tmp_path / "runs" / "tiny").images) == looks(tmp_path)[-1].images == 32


def test_a_refinement_adds_candidates_that_catch_up(tmp_path: Path, judged: Callable[..., None],
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    declared = suite(Budget(first_prompts=1, step_prompts=1, refine="alpha", finest=0.2))
    monkeypatch.setattr("harness.race.elimination.refinements", lambda result, _: (0.25, 0.75) if result.number == 1 else ())
    judged({**LOSES, "done": True}, {"done": True, "candidates": ("alpha=0", "alpha=0.25", "alpha=0.5", "alpha=0.75")})
    for _ in range(2):
        go(tmp_path, declared)
        run = load_run(tmp_path / "runs" / "tiny")
        assert [c.name for c in run.suite.candidates] == ["alpha=0", "alpha=0.25", "alpha=0.5", "alpha=0.75", "alpha=1"]
        assert [(look.stage, look.candidates) for look in run.looks][1:3] == [
            ("refine", ("alpha=0.25", "alpha=0.75")), ("select", ("alpha=0", "alpha=0.25", "alpha=0.5", "alpha=0.75"))]
        assert images(tmp_path)["alpha=0.25"] == 8
        assert run.head["added"] == ["alpha=0.25", "alpha=0.75"]


def test_without_the_race_a_session_keeps_what_an_earlier_one_added(tmp_path: Path, judged: Callable[..., None],
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    declared = suite(Budget(first_prompts=1, step_prompts=1, refine="alpha", finest=0.2))
    monkeypatch.setattr("harness.race.elimination.refinements", lambda result, _: (0.25,) if result.number == 1 else ())
    judged(LOSES, {"done": True})
    go(tmp_path, declared)
    for opened, added in ((declared, ["alpha=0.25"]), (suite(), [])):
        run = SuiteRun(opened, "s.py", Options(root=tmp_path, runs=tmp_path / "runs"), Silent())
        run.close()
        assert load_run(tmp_path / "runs" / "tiny").head["added"] == added


def test_neighbours_with_nothing_between_are_said_and_the_race_goes_on(tmp_path: Path, judged: Callable[..., None],
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.race.elimination.refinements", lambda result, _: (0.75,) if result.number == 1 else ())
    odd = suite(Budget(first_prompts=1, step_prompts=1, refine="alpha", finest=0.1))
    odd = replace(odd, candidates=(*odd.candidates[:2], Candidate(name="alpha=1", model="zoo:anime", axes={"alpha": 1.0})))
    judged({}, ENDS)
    go(tmp_path, odd)
    assert "not refined: between 'alpha=0.5' and 'alpha=1' there is no candidate: model is" in looks(tmp_path)[0].why


def test_a_gap_with_nothing_between_does_not_stop_the_others(tmp_path: Path, judged: Callable[..., None],
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    odd = suite(Budget(first_prompts=1, step_prompts=1, refine="alpha", finest=0.1))
    odd = replace(odd, candidates=(*odd.candidates[:2], Candidate(name="alpha=1", model="zoo:anime", axes={"alpha": 1.0})))
    monkeypatch.setattr("harness.race.elimination.refinements", lambda result, _: (0.25, 0.75) if result.number == 1 else ())
    judged({}, ENDS)
    go(tmp_path, odd)
    assert images(tmp_path)["alpha=0.25"]
    assert "not refined: between 'alpha=0.5' and 'alpha=1'" in looks(tmp_path)[0].why
    assert any("Not refined: between 'alpha=0.5' and 'alpha=1'" in reason
               for reason in race_reasons(load_run(tmp_path / "runs" / "tiny")))


def test_a_look_that_the_budget_does_not_leave_is_not_taken(tmp_path: Path, judged: Callable[..., None]) -> None:
    judged({})
    go(tmp_path, suite(Budget(first_prompts=1, step_prompts=1, images=35)))
    assert [look.stage for look in looks(tmp_path)] == ["select", "confirm"]
    assert looks(tmp_path)[0].why == "look 1; the next look would take 12 more images, which the budget of 35 does not leave"


def test_a_confirmation_that_the_budget_does_not_leave_is_said(tmp_path: Path, judged: Callable[..., None],
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    judged({"done": True})
    monkeypatch.setattr("reports.verdict.confirm_looks.seed_looks", lambda seeds: (seeds,))
    for _ in range(2):
        go(tmp_path, suite(Budget(first_prompts=1, step_prompts=1, images=35)))
        (only,) = looks(tmp_path)
        assert only.why == 'look 1; 24 more images for the stage "confirm" do not fit into the budget of 35'
    assert (tmp_path / "runs" / "tiny" / "journal.jsonl").read_text().count('"kind":"look"') == 1


def test_a_failed_candidate_is_raced_no_further_and_the_others_are(tmp_path: Path, judged: Callable[..., None]) -> None:
    torn = Candidate(name="torn", model="torn.safetensors", axes={"alpha": 2.0})
    declared = suite()
    judged({"candidates": (*NAMES, "torn")}, ENDS)
    go(tmp_path, replace(declared, candidates=(*declared.candidates, torn)), (*NAMES, "torn"))
    assert all("torn" not in look.candidates for look in looks(tmp_path))
    run = load_run(tmp_path / "runs" / "tiny")
    assert run.failure_of("torn")
    assert {gap.candidate for gap in run.missing if gap.value == "image"} == {"torn"}


def test_an_open_gate_gets_more_seeds_at_its_own_guidance(tmp_path: Path, judged: Callable[..., None],
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    judged(LOSES, ENDS)
    gate = Gate(value="saturation", at_most=1e-6, candidates=("alpha=1",))
    monkeypatch.setattr("reports.gates.judge", lambda run, _: [
        _verdict(gate, "inconclusive" if len(run.looks) < 4 else "passed")])
    go(tmp_path, suite(gates=(gate,)))
    last = looks(tmp_path)[-1]
    assert (last.stage, last.candidates, last.prompts, last.seeds) == ("gate", ("alpha=0", "alpha=1"), ("fish", "cup"), (1, 2))
    assert len(last.guidances) == 1
    assert "inconclusive with fewer seeds: saturation at_most 1e-06" in last.why


def test_without_the_gate_its_look_stands_no_more(tmp_path: Path, judged: Callable[..., None],
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    judged(LOSES, ENDS)
    gate = Gate(value="saturation", at_most=1e-6, candidates=("alpha=1",))
    monkeypatch.setattr("reports.gates.judge", lambda run, _: [
        _verdict(gate, "inconclusive" if gate in run.suite.gates else "passed")])
    go(tmp_path, suite(gates=(gate,)))
    assert looks(tmp_path)[-1].stage == "gate"
    go(tmp_path, suite())
    assert [look.stage for look in looks(tmp_path)] == ["select", "select", "confirm"]


def test_a_second_session_that_is_stopped_leaves_the_first_ones_verdict(tmp_path: Path, judged: Callable[..., None],
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    declared = suite(Budget(first_prompts=1, step_prompts=1, refine="alpha", finest=0.2))
    monkeypatch.setattr("harness.race.elimination.refinements", lambda result, _: (0.25,) if result.number == 1 else ())
    judged(LOSES, {"done": True})
    go(tmp_path, declared)
    before = (looks(tmp_path), [c.name for c in load_run(tmp_path / "runs" / "tiny").suite.candidates])
    assert "alpha=0.25" in before[1]
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, declared, stop_after=3)
    assert (looks(tmp_path), [c.name for c in load_run(tmp_path / "runs" / "tiny").suite.candidates]) == before


def test_what_the_race_no_longer_adds_leaves_the_suite_when_it_has_ended(tmp_path: Path, judged: Callable[..., None],
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    declared = suite(Budget(first_prompts=1, step_prompts=1, refine="alpha", finest=0.2))
    monkeypatch.setattr("harness.race.elimination.refinements", lambda result, _: (0.25,) if result.number == 1 else ())
    judged(LOSES, {"done": True})
    go(tmp_path, declared)
    monkeypatch.setattr("harness.race.elimination.refinements", lambda *_: ())
    judged(LOSES, ENDS)
    go(tmp_path, declared)
    assert [c.name for c in load_run(tmp_path / "runs" / "tiny").suite.candidates] == list(NAMES)


def test_the_baseline_that_was_not_selected_is_sampled_by_no_later_look(tmp_path: Path, judged: Callable[..., None]) -> None:
    judged({"candidates": NAMES[:2]}, ENDS)
    go(tmp_path, suite(), NAMES[1:])
    assert all("alpha=0" not in look.candidates for look in looks(tmp_path))


def _verdict(gate: Gate, status: str) -> Any:
    return SimpleNamespace(gate=gate.name, value=gate.value, other=gate.not_worse_than, candidate="alpha=1", status=status)


def test_an_axis_that_not_all_have_is_said_and_the_race_goes_on(tmp_path: Path, judged: Callable[..., None]) -> None:
    declared = suite(Budget(first_prompts=1, step_prompts=1, refine="alpha", finest=0.1))
    judged({}, ENDS)
    go(tmp_path, replace(declared, candidates=(*declared.candidates, Candidate(name="base", model="zoo:base"))), (*NAMES, "base"))
    assert "not refined: candidate 'base' has None on the axis 'alpha'" in looks(tmp_path)[0].why


def test_only_what_was_selected_is_raced(tmp_path: Path, judged: Callable[..., None]) -> None:
    judged({"candidates": NAMES[:2]}, ENDS)
    go(tmp_path, suite(), NAMES[:2])
    assert looks(tmp_path)[0].candidates == NAMES[:2]
    assert set(images(tmp_path)) == {*NAMES[:2]}


def test_fresh_throws_away_the_images_and_ends_like_before(tmp_path: Path, judged: Callable[..., None]) -> None:
    judged(LOSES, ENDS)
    go(tmp_path, suite())
    before, made = looks(tmp_path), pictures(tmp_path)
    run = go(tmp_path, suite(), fresh=True)
    assert (looks(tmp_path), pictures(tmp_path)) == (before, made)
    assert run.asking.spent == before[-1].images


def test_a_trial_is_scored_at_the_guidance_of_the_search_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pd.DataFrame({"candidate": "search 1", "prompt": "a", "same_text": "a", "guidance": [4.0, 2.0],
                          "objective": [1.0, 9.0]})
    monkeypatch.setattr("reports.read.run.load_run", lambda *_: SimpleNamespace(images=table))
    race: Any = SimpleNamespace(run=SimpleNamespace(race="r"), of=SimpleNamespace(folder=tmp_path),
                                _looks_at=lambda plan, names: (replace(plan, candidates=tuple(names)),))
    plan = Rectangle(candidates=(), guidances=(4.0, 2.0), prompts=("a",), seeds=(1,))
    assert Race._score(race, Candidate(name="search 1", model="zoo:photo"), plan) == 1.0


def test_a_search_leaves_only_the_best_in_the_suite(tmp_path: Path, judged: Callable[..., None]) -> None:
    pytest.importorskip("optuna")
    judged(ENDS)
    search = Search(merge=Merge(a="zoo:photo", b="zoo:anime"), guidance=4, blocks=9, trials=3, prompts=1, keep=1,
                    presets=("FLAT_25", "FLAT_50"))
    declared = suite(search=search)
    for _ in range(2):
        go(tmp_path, declared)
        run = load_run(tmp_path / "runs" / "tiny")
        (kept,) = run.head["added"]
        assert run.looks[0].stage == "search"
        assert run.looks[0].candidates == ("search 1", "search 2", "search 3")
        assert kept in run.looks[0].candidates
        assert kept in run.looks[1].candidates
        assert set(run.images["candidate"]) == {*NAMES, kept}


def test_a_trial_is_sampled_at_the_guidance_of_the_search_alone(tmp_path: Path, judged: Callable[..., None]) -> None:
    """The baseline has no image at the search's scale, only at one that the grid has too."""
    pytest.importorskip("optuna")
    judged(ENDS)
    search = Search(merge=Merge(a="zoo:photo", b="zoo:anime"), guidance=4, blocks=9, trials=3, prompts=1, keep=1,
                    presets=("FLAT_25", "FLAT_50"))
    plain = suite(search=search, metrics=("exposure", "psnr"))
    first, *rest = plain.candidates
    assert first.name == plain.baseline
    go(tmp_path, replace(plain, candidates=(replace(first, sampling=Sampling(guidance=1.0)), *rest)))
    journal = [json.loads(line) for line in (tmp_path / "runs" / "tiny" / "journal.jsonl").read_text().splitlines()]
    run = load_run(tmp_path / "runs" / "tiny")
    dropped = {f"search {number}" for number in (1, 2, 3)} - {*run.head["added"]}
    scales = {line["cell"]["guidance"] for line in journal if line["kind"] == "sample" and line["candidate"] in dropped}
    assert scales == {4.0}
    assert [(look.candidates, look.guidances) for look in run.looks[:2]] == [
        ((first.name,), (1.0,)), (("search 1", "search 2", "search 3"), (4.0,))]
    assert [gap for gap in run.missing if not gap.expected] == []


def test_only_what_stays_the_controls_and_what_a_gate_names_are_timed(tmp_path: Path, judged: Callable[..., None],
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    lost = tuple(Dropped(candidate=name, guidance=g, mean=-3.1, low=-5.0, high=-1.2) for name in ("alpha=0.25", "alpha=0.75")
                 for g in SCALES)
    judged({"dropped": lost, "candidates": NAMES}, ENDS)
    declared = suite(candidates=alpha_sweep("zoo:photo", "zoo:anime", (0, 0.25, 0.5, 0.75, 1)),
                     gates=(Gate(value="seconds_per_image", at_most=1, candidates=("alpha=0.75",)),))
    of = SuiteSession(declared, "s.py", session_options(tmp_path), Silent())
    of.select(declared.candidates)
    for candidate in declared.candidates:
        of.candidate(candidate)
    assert of.race() == []
    monkeypatch.setattr(SuiteRun, "costs", lambda _, names: names)
    timed: Any = of.costs()
    of.close()
    assert timed == ["alpha=0", "alpha=0.5", "alpha=0.75", "alpha=1"]


def test_the_axis_of_steps_is_refined_to_whole_numbers_of_steps(tmp_path: Path, judged: Callable[..., None]) -> None:
    declared = suite(Budget(first_prompts=1, step_prompts=1, refine="steps", finest=1), baseline="steps=4",
                     candidates=sampling_sweep("zoo:photo", steps=(4, 8, 20)))
    names = tuple(candidate.name for candidate in declared.candidates)
    best = {"best": ("steps=8", 4.0), "pick": ("steps=8", 4.0), "candidates": names}
    judged(best, {**best, "done": True, "best": None, "pick": None}, best)
    go(tmp_path, declared, names)
    assert {name for name in images(tmp_path) if name not in names} == {"steps=6", "steps=14"}


def test_a_look_takes_back_those_of_its_number_and_beyond() -> None:
    first = Look(race="r", number=1, stage="select", candidates=(), guidances=(), prompts=(), seeds=(), images=1)
    second, third = replace(first, number=2), replace(first, number=3)
    again = replace(second, images=5)
    other = replace(first, race="another")
    assert standing_looks([first, second, third, other, again], "r") == (first, again)


def test_the_suite_in_the_manual_is_sound_but_for_the_readers_own_files(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    shown = re.search(r"```python\n(.*?)```", (root / "docs" / "running.md").read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    names: dict[str, object] = {}
    exec(shown.group(1), names)
    assert isinstance(names["SUITE"], Suite)
    assert names["SUITE"].budget is not None
    assert all("does not exist below" in said for said in problems(names["SUITE"], root))


def test_without_a_gate_on_images_the_confirmation_takes_all_seeds_at_once(tmp_path: Path, judged: Callable[..., None]) -> None:
    judged(LOSES, ENDS)
    go(tmp_path, suite(gates=()))
    assert [(look.stage, look.seeds) for look in looks(tmp_path)][-1] == ("confirm", (1, 2))
