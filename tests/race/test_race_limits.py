"""A race uses what its budget leaves, keeps the looks of the whole race, begins anew when asked, and is promoted when done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import Prompt, Suite, alpha_sweep
from harness.declare import Budget, Merge, Search
from harness.plugin.ci import record_costs, record_race
from harness.promotion import gather
from harness.race.interim_looks import Rectangle
from harness.race.race import Race
from harness.race.time_left import TimeLeft
from harness.records import Cell, Sample
from harness.run.progress import Silent
from harness.run.suite_run import SuiteRun
from harness.run_folder.ledger import RunFolderError
from harness.samplers import image_work
from harness.session.suite_session import SuiteSession
from reports.read.run import load_run
from reports.verdict.sentences import race_reasons
from tests.fakes import tiny_grid
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
    scripted,
    session_options,
    suite,
)


@pytest.fixture(autouse=True)
def painted(monkeypatch: pytest.MonkeyPatch) -> None:
    paint_runs(monkeypatch, DeclaredBench)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setattr("harness.race.elimination.confirm_plan", lambda *_: (NAMES[:2], SCALES))
    return lambda *steps: monkeypatch.setattr("harness.race.elimination.judge_look", scripted(*steps))


def wide(budget: Budget) -> Suite:
    """Four select prompts in one look behind the first, and two confirm prompts."""
    declared = suite(budget)
    prompts = (*declared.grid.prompts, *(Prompt(id=name, text=f"a {name}") for name in ("house", "tree")))
    return replace(declared, grid=replace(declared.grid, prompts=prompts))


@pytest.mark.parametrize(("budget", "prompts"), [(0, 4), (80, 4), (79, 3), (59, 2), (47, 1), (35, 0)])
def test_a_look_takes_as_many_of_its_prompts_as_the_budget_leaves(tmp_path: Path, judged: Callable[..., None], budget: int,
                                                                 prompts: int) -> None:
    judged({}, {}, {})
    go(tmp_path, wide(Budget(first_prompts=1, step_prompts=4, images=budget)))
    selected = [look for look in looks(tmp_path) if look.stage == "select"]
    assert [len(look.prompts) for look in selected] == ([1, prompts] if prompts else [1])
    if 0 < prompts < 4:
        assert f"the budget of {budget} leaves {12 * prompts}: {prompts} of its prompts" in selected[0].why
        assert len(load_run(tmp_path / "runs" / "tiny").looks) == 3


def rectangle(*names: str) -> Rectangle:
    return Rectangle(candidates=names, guidances=(1.0, 4.0), prompts=("a", "b"), seeds=(1,))


def test_the_time_that_images_take_is_that_of_the_session_so_far_and_existing_ones_take_none() -> None:
    there = [Sample(candidate="x", cell=cell, key="k", path="p", sha256="s") for cell in list(rectangle("x").cells())[:3]]
    gallery = SimpleNamespace(at_hand=lambda name: there if name == "x" else [])
    run = SimpleNamespace(gallery=gallery, work_made=10, started=100.0)
    time = TimeLeft(2.0, run, clock=lambda: 120.0)
    assert time.seconds((rectangle("x", "y"),)) == (1 + 4) * 2.0
    assert time.left() == 100.0
    assert time.left(reserved_seconds=10.0) == 90.0
    assert TimeLeft(0.0, run).left() is None
    run.work_made = 0
    assert time.seconds((rectangle("y"),)) == 0.0


def test_images_of_more_steps_and_with_guidance_take_more_of_the_time() -> None:
    fast, slow = (tiny_grid(steps=steps, sampler=sampler) for steps, sampler in ((4, "euler"), (20, "heun")))
    run = SimpleNamespace(gallery=SimpleNamespace(at_hand=lambda _: []), work_made=4 * 64 * 64, started=0.0)
    time = TimeLeft(9.0, run, clock=lambda: 1.0, work_of=lambda name, scale: image_work(slow if name == "slow" else fast, scale))
    few, many = time.seconds((rectangle("fast"),)), time.seconds((rectangle("slow"),))
    # Two prompts at guidance 1 and 4: four evaluations and eight, against 39 and 78.
    assert (few, many) == (2 * (1 + 2), 2 * (39 + 78) / 4)


def timed(root: Path, **changes: Any) -> list[float]:
    """Seconds that a race reserves for timing one candidate and two, at a second for each image."""
    of = SuiteSession(replace(wide(Budget(minutes=3)), **changes), "s.py", session_options(root), Silent())
    try:
        race = Race(of, Budget(minutes=3))
        return [race._timing(names) for names in (("alpha=0",), ("alpha=0", "alpha=1"))]
    finally:
        of.close()


@pytest.mark.parametrize(("changes", "seconds"), [
    ({"latency_rounds": 3}, 8.0), ({"latency_rounds": 6}, 14.0), ({"latency_rounds": 3, "largest_batch": 4}, 16.0),
    ({"latency_rounds": 3, "latency_budget_seconds": 30.0}, 30.0), ({"latency_rounds": 3, "latency_budget_seconds": 2.0}, 8.0),
    ({"latency_rounds": 3, "latency_budget_seconds": 1e6}, 60.0)])
def test_all_images_of_the_timing_are_reserved(tmp_path: Path, changes: dict[str, Any], seconds: float,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TimeLeft, "seconds_of", lambda _, images: float(images))
    monkeypatch.setattr("harness.race.interim_looks.candidate_work", lambda *_: 1)
    one, two = timed(tmp_path, **changes)
    assert one == seconds
    assert two == (max(seconds, 16.0) if changes.get("latency_budget_seconds") == 30.0 else 2 * seconds)


@pytest.mark.parametrize(("left", "prompts"), [(60.0, 4), (48.0, 4), (47.0, 3), (12.0, 1), (11.0, 0), (-5.0, 0)])
def test_a_look_takes_as_many_of_its_prompts_as_the_minutes_leave(tmp_path: Path, judged: Callable[..., None], left: float,
                                                                 prompts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TimeLeft, "left", lambda *_: left)
    monkeypatch.setattr(TimeLeft, "seconds_of", lambda _, images: float(images))
    monkeypatch.setattr("harness.race.interim_looks.candidate_work", lambda *_: 1)
    judged({}, {}, {})
    go(tmp_path, wide(Budget(first_prompts=1, step_prompts=4, minutes=3)))
    selected = [look for look in looks(tmp_path) if look.stage == "select"]
    assert [len(look.prompts) for look in selected] == ([1, prompts] if prompts else [1])
    assert ("of which the budget of 3 minutes leaves" in selected[0].why) == (0 < prompts < 4)
    assert ("the time is used up: the next look would take about 48 s more" in selected[0].why) == (prompts == 0)
    run = load_run(tmp_path / "runs" / "tiny")
    assert [look.stage for look in run.looks if look.stage == "confirm"] == ["confirm"]
    assert ("the time is used up" in " ".join(race_reasons(run))) == (prompts == 0)


def test_a_session_with_time_goes_on_where_one_without_ended(tmp_path: Path, judged: Callable[..., None],
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as hurried:
        hurried.setattr(TimeLeft, "left", lambda *_: 0.0)
        hurried.setattr(TimeLeft, "seconds_of", lambda _, images: float(images))
        hurried.setattr("harness.race.interim_looks.candidate_work", lambda *_: 1)
        judged({}, {}, {})
        go(tmp_path, wide(Budget(first_prompts=1, step_prompts=4, minutes=3)))
    before = images(tmp_path)
    judged({}, {}, {})
    go(tmp_path, wide(Budget(first_prompts=1, step_prompts=4, minutes=3)))
    assert [len(look.prompts) for look in looks(tmp_path) if look.stage == "select"] == [1, 4]
    assert sum(images(tmp_path).values()) > sum(before.values())


def test_k_does_not_take_back_the_looks_of_the_whole_race(tmp_path: Path, judged: Callable[..., None]) -> None:
    judged(LOSES, ENDS)
    go(tmp_path, suite())
    before, made = looks(tmp_path), images(tmp_path)
    go(tmp_path, suite(), NAMES[1:2])
    assert (looks(tmp_path), images(tmp_path)) == (before, made)
    assert load_run(tmp_path / "runs" / "tiny").head["not_selected"] == []


def test_fresh_begins_a_search_anew_and_samples_what_it_keeps_once(tmp_path: Path, judged: Callable[..., None],
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    judged(ENDS)
    search = Search(merge=Merge(a="zoo:photo", b="zoo:anime"), guidance=4, blocks=9, trials=2, prompts=1, keep=1,
                    presets=("FLAT_25", "FLAT_50"))
    go(tmp_path, suite(search=search))
    before = looks(tmp_path)
    made: list[tuple[str, Cell]] = []
    took = SuiteRun._took

    def counted(run: SuiteRun, doing: str, samples: Sequence[Sample], pixels: Any) -> None:
        made.extend((s.candidate, s.cell) for s in samples)
        took(run, doing, samples, pixels)

    monkeypatch.setattr(SuiteRun, "_took", counted)
    go(tmp_path, suite(search=search), fresh=True)
    assert looks(tmp_path) == before
    assert {"search 1", "search 2"} <= {name for name, _ in made}
    assert len(made) == len(set(made)) == before[-1].images


def test_a_damaged_log_of_a_search_is_said_as_what_is_wrong_with_the_run_folder(tmp_path: Path, judged: Callable[..., None],
                                                                                ) -> None:
    pytest.importorskip("optuna")
    judged(ENDS)
    search = Search(merge=Merge(a="zoo:photo", b="zoo:anime"), guidance=4, blocks=9, trials=2, prompts=1, keep=1)
    (tmp_path / "runs" / "tiny" / "search.log").mkdir(parents=True)
    with pytest.raises(RunFolderError, match=r"search\.log is damaged: it cannot be read \(Is a directory\). Move the file away"):
        go(tmp_path, suite(search=search))


@pytest.mark.parametrize(("looks_left", "name", "said"), [
    (3, "alpha=0.5", ""), (3, "alpha=0", ""),
    (3, "alpha=1", "candidate 'alpha=1' was not sampled on the confirm prompts: the adaptive sweep dropped it at interim look 1"),
    (2, "alpha=0.5", "the adaptive sweep did not reach the confirm prompts; its last interim look says: look 2"),
    (1, "alpha=0.5", "the adaptive sweep did not reach the confirm prompts; its last interim look says: look 1")])
def test_only_what_a_finished_race_confirmed_may_be_promoted(tmp_path: Path, judged: Callable[..., None], looks_left: int,
                                                             name: str, said: str) -> None:
    judged(LOSES, ENDS)
    go(tmp_path, suite())
    folder = tmp_path / "runs" / "tiny"
    lines = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
    places = [at for at, line in enumerate(lines) if '"kind":"look"' in line]
    (folder / "journal.jsonl").write_text("".join(lines[:places[looks_left - 1] + 1]))
    found = "; ".join(one for one in gather(folder, name).unfinished if "confirm prompts" in one)
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_junit_knows_the_candidates_that_a_race_added(tmp_path: Path, judged: Callable[..., None],
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    declared = suite(Budget(first_prompts=1, step_prompts=1, refine="alpha", finest=0.2),
                     candidates=alpha_sweep("zoo:photo", "zoo:anime", (0, 0.5, 1)))
    monkeypatch.setattr("harness.race.elimination.refinements", lambda result, _: (0.25,) if result.number == 1 else ())
    judged(LOSES, {"done": True})
    race = go(tmp_path, declared)
    of = SimpleNamespace(suite=declared, run=lambda: race.run, looks=tuple(race.asking.looks), latency=lambda c: (0.5,))
    item = SimpleNamespace(user_properties=[])
    record_race(item, of)  # type: ignore[arg-type]
    record_costs(item, of)  # type: ignore[arg-type]
    said = dict(item.user_properties)
    assert said["images"] == race.asking.looks[-1].images
    assert (said["images[alpha=0.25]"], said["seconds_per_image[alpha=0.25]"]) == (8, 0.5)
