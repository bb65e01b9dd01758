"""Files of a run folder that somebody edited: what is not of its kind is named and does not count, and nothing stops on it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.declare import Budget, Gate
from reports.gates import judge
from reports.page.summary import markdown
from reports.read.run import Run, load_run
from reports.verdict.recommending import recommend
from tests.reports import synthetic

Edit = Callable[..., Run]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    suite = synthetic.merge_suite(grid=synthetic.SMALL, gates=(
        Gate(value="clip_score", at_least=20.0), Gate(value="clip_score", not_worse_than="alpha=0", ratio=0.9),
        Gate(value="seconds_per_image", not_worse_than="baseline", ratio=1.2), Gate(value="peak_bytes", at_most=8e9)))
    return synthetic.write_run(tmp_path_factory.mktemp("kinds") / "run", suite)


@pytest.fixture
def head(tmp_path: Path, written: Path) -> Callable[..., Run]:
    """Loads the run with one place of run.json replaced by raw JSON."""

    def edit(*place: Any, raw: str) -> Run:
        folder = tmp_path / "run"
        shutil.copytree(written, folder)
        (folder / "run.json").write_text(_replaced(json.loads((written / "run.json").read_text()), place, raw))
        return load_run(folder)

    return edit


@pytest.fixture
def journal(tmp_path: Path, written: Path) -> Edit:
    """Loads the run with one place of the first record of a kind, or of all of them, replaced by raw JSON."""

    def edit(kind: str, *place: Any, raw: str, metric: str = "", every: bool = False) -> Run:
        folder = tmp_path / "run"
        shutil.copytree(written, folder)
        lines, done = [], False
        for line in (written / "journal.jsonl").read_text().splitlines():
            record = json.loads(line)
            hit = record["kind"] == kind and (not metric or record.get("metric") == metric) and (every or not done)
            done = done or hit
            lines.append(_replaced(record, place, raw) if hit else line)
        assert done
        (folder / "journal.jsonl").write_text("\n".join(lines) + "\n")
        return load_run(folder)

    return edit


def _replaced(data: Any, place: tuple[Any, ...], raw: str) -> str:
    inner = data
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = "@@"
    return json.dumps(data).replace('"@@"', raw)


def told(run: Run) -> str:
    """The whole verdict as text; it must not stop on anything."""
    recommendation = recommend(run)
    return markdown(run, recommendation, judge(run, recommendation))


@pytest.mark.parametrize(("place", "raw", "said"), [
    (("suite", "gates", 1, "ratio"), '["x"]', r"suite\.gates\[1\]\.ratio is \('x',\); expected a finite number or null"),
    (("suite", "gates", 0, "at_least"), "{}", r"suite\.gates\[0\]\.at_least is \{\}"),
    (("suite", "gates", 0, "candidates"), "5", r"suite\.gates\[0\]\.candidates is 5"),
    (("suite", "objective", "penalties", 0, "weight"), '"much"', r"penalties\[0\]\.weight is 'much'"),
    (("suite", "objective", "penalties", 0, "allowance"), "1e999", r"allowance is inf; expected a finite number"),
    (("suite", "objective", "penalties", 0, "allowance"), "1e308", r"allowance is 1e\+308"),
    (("suite", "objective", "maximise"), '{"a": 1}', r"objective\.maximise is \{'a': 1\}; expected a text"),
    (("suite", "objective", "desirabilities"), '"x"', r"objective\.desirabilities is 'x'; expected a list"),
    (("suite", "objective", "constraints"), "null", r"objective\.constraints is None"),
    (("suite", "candidates", 1, "axes", "alpha"), "1" + 400 * "0", r"axes\['alpha'\] is 1000"),
    (("suite", "candidates", 1, "emphasis"), r'"\ud800"', r"emphasis is .*; expected a Emphasis or null"),
    (("suite", "candidates", 1, "name"), r'"\ud800"', r"candidates\[1\]\.name is .*; expected a text"),
    (("suite", "candidates", 1, "model", "alpha"), "true", r"model\.alpha is True"),
    (("suite", "styles"), "3", r"suite\.styles is 3"),
    (("suite", "budget"), '{"is": "Budget", "first_prompts": "8"}', r"budget\.first_prompts is '8'; expected a whole number"),
    (("suite", "grid", "seeds"), "[1, 1]", "the seed 1 2 times"),
    (("suite", "grid", "seeds"), "[]", "has no seed"),
    (("suite", "grid", "prompts", 0, "split"), '"train"', "of the split 'train'"),
    (("suite", "candidates", 1, "name"), '"alpha=0"', "the candidate 'alpha=0' 2 times"),
    (("suite", "latency_rounds"), "NaN", "NaN is no number"),
    (("suite", "name"), '"a", "name": "b"', "'name' stands twice"),
    (("metrics", "psnr_db", "metric"), "{}", "the metric of the metric 'psnr_db' is an object"),
    (("not_offered",), '{"alpha=0": 3}', "'not_offered' holds a number"),
    (("added",), '"alpha"', "'added' is a text")])
def test_a_part_of_the_head_that_is_not_of_its_kind_is_named(head: Edit, place: tuple[Any, ...], raw: str, said: str) -> None:
    with pytest.raises(ValueError, match=rf"run\.json.*{said}.*run the suite again"):
        head(*place, raw=raw)


def test_a_gate_against_somebody_who_is_no_candidate_is_not_measured(head: Edit) -> None:
    run = head("suite", "gates", 1, "not_worse_than", raw='"nobody"')
    verdict = judge(run, recommend(run))[1]
    assert (verdict.status, verdict.reason) == ("not_measured", "the suite has no candidate 'nobody'")
    assert "nobody" in told(run)


@pytest.mark.parametrize("raw", ["NaN", "Infinity", "1e999", "1e308", "-1e308", "1" + 400 * "0", '"x"', "[1]", "null", "true"])
def test_a_value_that_is_no_number_is_not_there_and_the_line_is_named(journal: Edit, raw: str) -> None:
    run = journal("measurement", "values", "clip_score", raw=raw, metric="clip_score")
    assert len(run.damaged) == 1
    assert "the measurement of 'alpha=0' is not one: measurement.values['clip_score']" in run.damaged[0]
    assert run.images["clip_score"].isna().sum() == 1
    assert [(g.candidate, g.count, g.why) for g in run.missing if g.value == "objective"] == [("alpha=0", 1, "no clip_score")]
    assert "could not be read" in told(run)


@pytest.mark.parametrize(("kind", "place", "raw"), [
    ("latency", ("seconds", "total"), '["x", 1]'), ("latency", ("seconds", "total"), "[null, 1]"),
    ("latency", ("seconds", "total"), "[NaN, 1]"), ("latency", ("yardstick",), "[Infinity]"),
    ("latency", ("yardstick",), '["x"]'),
    ("latency", ("batch_size",), '"1"'), ("memory", ("readings", 1, "value"), '"x"'), ("memory", ("readings", 1, "value"), "NaN"),
    ("durations", ("seconds", "switch"), "[{}, 1]"), ("weights", ("inputs",), '{"a": 5}'), ("coverage", ("keys",), '{"a": [5]}')])
def test_a_record_with_another_kind_of_value_does_not_count(journal: Edit, kind: str, place: tuple[Any, ...], raw: str) -> None:
    run = journal(kind, *place, raw=raw)
    assert len(run.damaged) == 1
    # By its record, or by its line where no run can have written it.
    assert kind in run.damaged[0]
    assert "alpha=0" in run.damaged[0]
    assert told(run)


@pytest.mark.parametrize("raw", ['"x"', "[]", '["photo"]', '{"photo": "x"}', '{"photo": null}', '{"photo": NaN}', "5", "true"])
def test_leanings_that_are_no_shares_by_look_do_not_count(journal: Edit, raw: str) -> None:
    run = journal("measurement", "details", "leanings", raw=raw, metric="styles", every=True)
    assert len(run.damaged) == len(run.images)
    assert "leanings" not in run.images.columns


@pytest.mark.parametrize("name", ["candidate", "prompt", "seed", "guidance", "path", "objective", "palette_left", "alpha",
                                  "clip_score"])
@pytest.mark.parametrize("part", ["labels", "details"])
def test_no_label_takes_the_place_of_a_column_of_another_kind(journal: Edit, written: Path, name: str, part: str) -> None:
    run, sound = journal("measurement", part, raw=json.dumps({name: "x"}), metric="styles", every=True), load_run(written)
    assert run.images[name].tolist() == pytest.approx(sound.images[name].tolist(), nan_ok=True) if name != "path" else True
    assert told(run) == told(sound)


def test_a_score_that_would_overflow_is_too_large_for_one(head: Edit) -> None:
    penalty = '[{"is": "Penalty", "metric": "clip_score", "weight": 1e99, "allowance": -1e5}]'
    run = head("suite", "objective", "penalties", raw=penalty)
    assert run.images["objective"].isna().all()
    assert {g.why for g in run.missing if g.value == "objective"} == {"too large for a score"}
    assert told(run)


@pytest.mark.parametrize(("changes", "damaged"), [
    ({"level": 5.0}, 1), ({"level": 0.0}, 1), ({"prompts": [["p00"]]}, 1), ({"seeds": ["1"]}, 1), ({"number": "1"}, 1),
    ({"candidates": ["nobody"]}, 0), ({"prompts": ["p99"]}, 0), ({"guidances": [99.0]}, 0), ({"seeds": []}, 0),
    ({"dropped": [{"candidate": "nobody", "guidance": 3.0, "mean": 1.0, "low": 1.0, "high": 1.0}]}, 0)])
def test_a_look_that_contradicts_the_suite_stops_nothing(tmp_path: Path, changes: dict[str, Any], damaged: int) -> None:
    suite = synthetic.merge_suite(grid=synthetic.SMALL, budget=Budget(first_prompts=1, step_prompts=1))
    folder = synthetic.write_run(tmp_path / "run", suite, race="r")
    look = {"kind": "look", "race": "r", "number": 1, "stage": "select", "candidates": [c.name for c in suite.candidates],
            "guidances": [3.0], "prompts": ["p00", "p01"], "seeds": [1], "images": 14, "level": 0.975, "dropped": []}
    with (folder / "journal.jsonl").open("a") as file:
        file.write(json.dumps({**look, **changes}) + "\n")
    run = load_run(folder)
    assert len(run.damaged) == damaged
    assert told(run)
