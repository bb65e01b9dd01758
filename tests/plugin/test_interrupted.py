"""A run that is stopped, is given a part of its items, or whose files change on the way: in the end it says what an undisturbed
one says, and until then that it is not complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import load_run, run_suite
from harness.declare import Grid
from harness.records import Cell
from reports.gates.decision import INCOMPLETE, NOTHING
from tests import painted as painting
from tests.gold.facts import facts
from tests.plugin.test_plugin import loaded, painted, write_suite, zoo_cache

__all__ = ["loaded", "painted", "zoo_cache"]


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest("suites", "--benchmark", "-p", "no:randomly", *arguments, no_reraise_ctrlc=True)


def folder(pytester: pytest.Pytester) -> Path:
    return pytester.path / "runs" / "tiny"


@pytest.fixture(scope="module")
def once() -> dict[str, Any]:
    """The facts of the undisturbed run, once it ran."""
    return {}


@pytest.fixture
def undisturbed(pytester: pytest.Pytester, painted: None, once: dict[str, Any]) -> dict[str, Any]:
    """What an undisturbed run from Python says in figures. The suite is in suites/."""
    file = write_suite(pytester)
    if not once:
        assert run_suite(file, runs_dir=pytester.path / "undisturbed", progress=False).complete
        once |= facts(pytester.path / "undisturbed" / "tiny")
    return once


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, type[BaseException] | None], None]:
    """Sets after how many batches, of the next images, an exception is raised."""
    left = {"batches": -1}
    kind: list[type[BaseException] | None] = [None]

    def paint(phases: Any, grid: Grid, todo: Any, texts: object = None,
              broken: Callable[[Cell, str], None] | None = None,
              later: object = None) -> Iterator[tuple[tuple[Cell, ...], np.ndarray]]:
        for batch in painting.paint(phases, grid, todo, texts, broken):
            yield batch
            left["batches"] -= 1
            if left["batches"] == 0 and kind[0] is not None:
                raise kind[0]("stopped")

    def after(batches: int, raised: type[BaseException] | None) -> None:
        left["batches"], kind[0] = batches, raised
        monkeypatch.setattr("harness.executors.maker.sample", paint)

    return after


@pytest.mark.parametrize(("batches", "raised"), [(1, KeyboardInterrupt), (2, RuntimeError)])
def test_a_run_that_is_stopped_is_not_final_and_ends_like_an_undisturbed_one(
        pytester: pytest.Pytester, undisturbed: dict[str, Any], stop: Callable[..., None], batches: int,
        raised: type[BaseException]) -> None:
    stop(batches, raised)
    stopped = run(pytester, "-x")
    assert stopped.ret != 0
    part = load_run(folder(pytester))
    assert not part.complete
    assert part.headline.decision in (INCOMPLETE, NOTHING)
    stop(-1, None)
    assert run(pytester).ret == 0
    assert facts(folder(pytester)) == undisturbed


@pytest.mark.parametrize("parts", [
    ["-k", "candidate and alpha:0.5", "--maxfail=1"], ["--deselect", "suites/tiny.py::candidate[alpha=0]"]])
def test_a_part_of_the_candidates_is_not_final_and_the_rest_makes_it_whole(
        pytester: pytest.Pytester, undisturbed: dict[str, Any], parts: list[str]) -> None:
    run(pytester, *parts)
    part = load_run(folder(pytester))
    assert not part.complete
    assert part.headline.decision in (INCOMPLETE, NOTHING)
    assert any("not selected" in gap.why for gap in part.missing)
    assert run(pytester).ret == 0
    assert facts(folder(pytester)) == undisturbed


def test_one_item_by_its_node_id_is_that_candidate_alone(pytester: pytest.Pytester, undisturbed: dict[str, Any]) -> None:
    result = pytester.runpytest("suites/tiny.py::candidate[alpha=1]", "--benchmark")
    result.assert_outcomes(passed=1)
    part = load_run(folder(pytester))
    assert (set(part.images["candidate"]), part.complete) == ({"alpha=1"}, False)
    assert run(pytester).ret == 0
    assert facts(folder(pytester)) == undisturbed


FILES = {
    "tiny.py": """
from harness import Gate, Grid, Merge, Candidate, Objective, Suite, read_prompts
from pathlib import Path
SUITE = Suite(name="tiny", baseline="a", objective=Objective(maximise="level", penalties=()), latency_rounds=1,
    candidates=[Candidate(name=name, model=Merge(a="zoo:photo", b="zoo:anime", alpha=alpha))
                for name, alpha in (("a", 0.0), ("b", 0.5))],
    grid=Grid(prompts=read_prompts(Path(__file__).with_name("prompts.toml")), seeds=[1], guidance_scales=[3], steps=2,
              width=64, height=64, batch_size=1), metrics=["levels_beside:LEVEL"])
""",
    "prompts.toml": """
[[prompt]]
id = "star"
text = "a red star"
[[prompt]]
id = "car"
text = "a blue car"
split = "confirm"
""",
    "levels_beside.py": """
from harness.metrics import ImageScore, Metric, ValueSpec
def measure(image_set):
    return [ImageScore(values={"level": float(image.mean()) + 1.0}) for image in image_set.images]
LEVEL = Metric(measure=measure, version=1, values=(
    ValueSpec(name="level", title="Level", unit="levels", better="higher", definition="mean level"),))
"""}
CHANGES = {"tiny.py": ('("b", 0.5)', '("b", 0.6)'), "prompts.toml": ("a blue car", "a green car"),
           "levels_beside.py": ("+ 1.0", "+ 2.25")}


def values(run_folder: Path) -> list[dict[str, Any]]:
    """Every image of a run: its key, its text and its value."""
    table = load_run(run_folder).images[["candidate", "prompt", "text", "sample", "level"]]
    return sorted(table.to_dict("records"), key=str)


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_of_the_suite_that_changes_during_the_run_counts_from_the_next_run_on(
        pytester: pytest.Pytester, painted: None, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    suites = pytester.path / "suites"
    suites.mkdir()
    for file, text in FILES.items():
        (suites / file).write_text(text)
    assert run(pytester, "--runs-dir", "old").ret == 0

    def paint(*given: Any, **named: Any) -> Iterator[Any]:
        for batch in painting.paint(*given, **named):
            yield batch
            (suites / name).write_text(FILES[name].replace(*CHANGES[name]))

    monkeypatch.setattr("harness.executors.maker.sample", paint)
    assert run(pytester).ret == 0
    assert (suites / name).read_text() != FILES[name]
    assert values(folder(pytester)) == values(pytester.path / "old" / "tiny")
    assert run(pytester).ret == 0
    assert run(pytester, "--runs-dir", "new").ret == 0
    assert values(folder(pytester)) == values(pytester.path / "new" / "tiny") != values(pytester.path / "old" / "tiny")
