"""Points of one suite over time: in order, with their intervals, and joined only where they were measured alike."""

from __future__ import annotations

import csv as tables
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.declare import Grid, Objective, Sampling, Suite
from harness.records.signed_json import digest_of
from reports.read.run import load_run
from reports.statistics.intervals import cluster_mean
from reports.trend import series
from reports.trend.series import BASELINE, PICK, PROMOTED, Trend, read_trend
from reports.trend.views import csv, lines_plot, page, rows
from tests.reports import synthetic
from tests.reports.synthetic import METRICS, Place, planted, prompts, sampling, write_run
from tests.rows import row

GRID = Grid(prompts=prompts(4, 2), seeds=(1,), guidance_scales=(3.0, 8.0), width=32, height=32)
MACHINE = {"device": "cuda", "device_name": "H100", "packages": {"torch": "2.9"}}


def small(**changes: Any) -> Suite:
    every = synthetic.merge_suite(grid=GRID)
    return replace(every, **{"candidates": every.candidates[:4:3], **changes})


def better(place: Place) -> dict[str, float]:
    return {k: v + (k == "clip_score") for k, v in planted(place).items()}


def write(folder: Path, day: int, truth: Callable[[Place], dict[str, float]] = planted, suite: Suite | None = None,
          **head: Any) -> Path:
    environment = {**MACHINE, "git_commit": f"{day:02d}" * 20, **head.pop("environment", {})}
    return write_run(folder / f"day{day}", suite or small(), truth, started=f"2026-01-{day:02d}T00:00:00+00:00",
                     environment=environment, **head)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [write(folder, 1), write(folder, 2, better), write(folder, 3, better)]


def baseline(file: Path, run: Path, **changes: Any) -> Path:
    """A baseline file of a run's second candidate, signed as promotion signs it."""
    of = load_run(run)
    table = of.images[of.images["candidate"] == "alpha=0.45"]
    cells = [[r["prompt"], int(r["seed"]), float(r["guidance"]), "k", float(r["clip_score"])] for r in table.to_dict("records")]
    data = {"format": 1, "suite": {"name": of.suite.name, "run_started": of.head["started"]}, "name": "ship", "version": 2,
            "candidate": "alpha=0.45", "metrics": {"clip_score": 1}, "sampling": sampling(of.suite),
            "environment": dict(of.environment), "weights": {}, "inputs": {},
            "cells": {"columns": ["prompt", "seed", "guidance", "image", "clip_score"], "rows": cells}, **changes}
    file.write_text(json.dumps({**data, "digest": digest_of(data)}))
    return file


def test_points_come_by_date_whatever_the_order_of_the_paths(three: list[Path]) -> None:
    of = read_trend([three[2], three[0], three[1]])
    assert [p.date.day for p in of.points] == [1, 2, 3]
    assert of.series == (PICK, BASELINE, "alpha=0", "alpha=0.45")
    assert of.values[0] == "objective"


def test_a_point_is_the_mean_over_prompts_with_its_interval(three: list[Path]) -> None:
    of = read_trend(three, guidance=8.0)
    run = load_run(three[0])
    cells = run.images[(run.images["candidate"] == "alpha=0.45") & (run.images["guidance"] == 8.0)]
    assert of.points[0].estimates["alpha=0.45", "clip_score"] == cluster_mean(cells, row("clip_score"))
    assert of.points[1].estimates["alpha=0.45", "clip_score"].mean == pytest.approx(cells["clip_score"].mean() + 1)


def test_points_that_were_measured_alike_are_joined(three: list[Path]) -> None:
    of = read_trend(three)
    assert of.segments(PICK, "clip_score") == [[0, 1, 2]]
    assert of.changed(1, "objective") == []


@pytest.mark.parametrize(("change", "value", "said"), [
    ({"environment": {"device_name": "H200"}}, "seconds_per_image", "device name H100 and H200"),
    ({"environment": {"packages": {"torch": "2.10"}}}, "seconds_per_image", "torch 2.9 and 2.10"),
    ({"suite": small(grid=replace(GRID, prompts=prompts(4, 2, text=lambda i: f"no. {i}")))}, "clip_score", "prompts"),
    ({"suite": small(grid=replace(GRID, steps=7))}, "clip_score", "sampling: steps 20 and 7"),
    ({"suite": small(grid=replace(GRID, seeds=(2,)))}, "clip_score", "seeds"),
    ({"suite": small(grid=replace(GRID, seeds=(1, 2)))}, "objective", "seeds"),
    ({"suite": small(grid=replace(GRID, guidance_scales=(3.0, 8.0, 12.0)))}, "palette_left", "guidance scales"),
    ({"suite": small(baseline="alpha=0.45")}, "palette_drift", "metric"),
    ({"suite": small(objective=Objective(penalties=()))}, "objective", "metric")])
def test_a_line_is_broken_where_something_changed(tmp_path: Path, three: list[Path], change: dict[str, Any], value: str,
                                                  said: str) -> None:
    of = read_trend([*three[:2], write(tmp_path, 9, **change)])
    assert of.changed(2, value) == [said]
    assert of.segments("alpha=0", value) == [[0, 1], [2]]
    assert sum(said in row["changed"] for row in rows(of)) == 1


def test_a_line_of_memory_is_broken_where_the_reading_is_another(three: list[Path]) -> None:
    of = read_trend(three)
    assert of.segments("alpha=0", "peak_bytes") == [[0, 1, 2]]
    readings = {place: name.replace("process_rss", "torch_reserved") for place, name in of.points[2].readings.items()}
    other = replace(of, points=(*of.points[:2], replace(of.points[2], readings=readings)))
    assert other.changed(2, "peak_bytes") == ["reading process RSS and torch, reserved"]
    assert other.segments("alpha=0", "peak_bytes") == [[0, 1], [2]]
    assert other.segments("alpha=0", "seconds_per_image") == [[0, 1, 2]]


def test_another_scale_or_baseline_breaks_no_line_of_a_value_of_the_image_alone(tmp_path: Path, three: list[Path]) -> None:
    wider = small(grid=replace(GRID, guidance_scales=(3.0, 8.0, 12.0)), baseline="alpha=0.45")
    of = read_trend([*three[:2], write(tmp_path, 9, suite=wider)], guidance=8.0)
    assert of.segments("alpha=0", "clip_score") == [[0, 1, 2]]


def test_a_point_that_lacks_images_is_not_the_mean_of_the_rest(tmp_path: Path, three: list[Path]) -> None:
    folder = write(tmp_path, 9)
    journal = folder / "journal.jsonl"
    lines = [line for line in journal.read_text().splitlines(keepends=True)
             if not ('"kind":"sample"' in line and '"candidate":"alpha=0",' in line and '"prompt":"p00"' in line)]
    journal.write_text("".join(lines))
    of = read_trend([*three[:2], folder], guidance=8.0)
    absent = of.points[2].estimates["alpha=0", "clip_score"]
    assert (absent.mean, "1 of 6 images" in absent.why) == (None, True)
    assert of.segments("alpha=0", "clip_score") == [[0, 1]]
    assert of.segments("alpha=0.45", "clip_score") == [[0, 1, 2]]


def test_a_line_is_cut_where_the_baseline_is_another_candidate(tmp_path: Path, three: list[Path]) -> None:
    """The candidates of these names go on, each by itself; the table says what the pick was."""
    other = write(tmp_path, 4, better, small(baseline="alpha=0.45"))
    of = read_trend([*three, other])
    assert of.segments(BASELINE, "clip_score") == [[0, 1, 2], [3]]
    assert of.segments("alpha=0", "clip_score") == [[0, 1, 2, 3]]
    (row,) = [line for line in csv(of).splitlines() if ",the baseline," in line and "day4" in line and ",clip_score," in line]
    assert "candidate alpha=0 and alpha=0.45" in row


def test_a_line_of_the_pick_is_cut_where_another_candidate_or_guidance_is_picked(tmp_path: Path, three: list[Path]) -> None:
    of = read_trend(three)
    points = [replace(p, who={**p.who, PICK: f"alpha={0.1 * (i > 0):g}"}, at={**p.at, PICK: 3.0 + 5 * (i > 1)})
              for i, p in enumerate(of.points)]
    changed = replace(of, points=tuple(points))
    assert changed.segments(PICK, "clip_score") == [[0], [1], [2]]
    assert changed.segments("alpha=0", "clip_score") == [[0, 1, 2]]
    assert [row["changed"] for row in rows(changed)] == [
        "the first of its kind", "candidate alpha=0 and alpha=0.1", "guidance 3 and 8"]


@pytest.mark.parametrize("series", [PICK, BASELINE, "alpha=0.45"])
def test_a_line_is_cut_where_an_adaptive_sweep_asked_for_other_images(three: list[Path], series: str) -> None:
    of = read_trend(three)
    fewer = replace(of.points[2], asked={**of.points[2].asked, series: frozenset({("p00", 1)})})
    changed = replace(of, points=(*of.points[:2], fewer))
    assert of.segments(series, "clip_score") == [[0, 1, 2]]
    assert changed.segments(series, "clip_score") == [[0, 1], [2]]
    assert changed.changed_in(series, 2, "clip_score", 1) == ["images asked for"]
    assert changed.segments(series, "seconds_per_image") == of.segments(series, "seconds_per_image")


@pytest.mark.parametrize("value", ["clip_score", "seconds_per_image"])
def test_a_line_is_cut_where_its_candidate_says_another_way_of_sampling(value: str, tmp_path: Path) -> None:
    one, other = small().candidates
    paths = [write(tmp_path, steps, suite=small(candidates=(one, replace(other, sampling=Sampling(steps=steps)))))
             for steps in (4, 8)]
    of = read_trend(paths)
    assert of.changed_in(other.name, 1, value, 0) == ["sampling: steps 4 and 8"]
    assert of.changed_in(one.name, 1, value, 0) == []


def test_the_line_of_what_was_promoted_is_cut_where_it_was_sampled_otherwise(three: list[Path], tmp_path: Path) -> None:
    block = sampling(load_run(three[0]).suite)
    files = [baseline(tmp_path / f"{at}.json", run, sampled_as={**block, "steps": steps})
             for at, (run, steps) in enumerate(zip(three, (4, 8, 8), strict=True))]
    of = read_trend(files)
    assert "sampling: steps 4 and 8" in of.changed_in(PROMOTED, 1, "clip_score", 0)
    assert not any("steps" in change for change in of.changed_in(PROMOTED, 2, "clip_score", 1))


@pytest.mark.parametrize("name", [PICK, BASELINE, PROMOTED, f"candidate {PICK}"])
def test_a_candidate_that_is_called_like_a_series_has_its_own(tmp_path: Path, name: str) -> None:
    suite = small()
    named = tuple(replace(c, name=name) if c.name == "alpha=0" else c for c in suite.candidates)
    of = read_trend([write(tmp_path, 1, better, replace(suite, candidates=named, baseline="alpha=0.45"))])
    (point,) = of.points
    assert (point.who[PICK], point.who[BASELINE], point.who[f"candidate {name}"]) == ("alpha=0.45", "alpha=0.45", name)


def test_another_device_is_noted_and_breaks_no_line_of_a_value(tmp_path: Path, three: list[Path]) -> None:
    of = read_trend([*three[:2], write(tmp_path, 9, environment={"device_name": "H200"})])
    assert of.segments("alpha=0", "clip_score") == [[0, 1, 2]]
    assert "device H100 and H200" in rows(of)[2]["changed"]


@pytest.mark.parametrize(("old", "new", "head"), [
    ('"setting":"clip-file-hash"', '"setting":"another"', {"metric_settings": {"clip_score": "another"}}),
    ('"metric":"clip_score","version":1', '"metric":"clip_score","version":2',
     {"metrics": {**METRICS, "clip_score": {**METRICS["clip_score"], "version": 2}}})])
def test_another_clip_model_or_version_breaks_the_line(tmp_path: Path, three: list[Path], old: str, new: str,
                                                       head: dict[str, Any]) -> None:
    run = write(tmp_path, 9, **head)
    journal = (run / "journal.jsonl").read_text()
    assert old in journal
    (run / "journal.jsonl").write_text(journal.replace(old, new))
    of = read_trend([*three[:2], run])
    assert of.segments("alpha=0", "clip_score") == of.segments("alpha=0", "objective") == [[0, 1], [2]]
    assert of.segments("alpha=0", "clipped_share") == [[0, 1, 2]]
    assert rows(of)[2]["changed"] == "metric of Objective and CLIP score"


def test_what_another_metric_measured_stays_joined(tmp_path: Path, three: list[Path]) -> None:
    of = read_trend([*three[:2], write(tmp_path, 9, metric_settings={"clip_score": "another"})])
    assert of.segments("alpha=0", "clipped_share") == [[0, 1, 2]]
    assert of.segments("alpha=0", "seconds_per_image") == [[0, 1, 2]]


def test_a_baseline_file_is_a_point_of_what_was_promoted(tmp_path: Path, three: list[Path]) -> None:
    files = [baseline(tmp_path / f"{i}.json", run) for i, run in enumerate(three[:2])]
    of = read_trend([*three, *files], guidance=8.0)
    at = [i for i, p in enumerate(of.points) if p.kind == "baseline"]
    assert at == [1, 3]
    assert of.points[1].estimates[PROMOTED, "clip_score"] == of.points[0].estimates["alpha=0.45", "clip_score"]
    assert of.changed(3, "clip_score", 1) == ["prompts not on record"]


def test_baseline_files_that_name_their_prompts_are_joined_while_these_are_the_same(tmp_path: Path, three: list[Path]) -> None:
    texts = {p.id: [p.text, p.negative] for p in GRID.prompts}
    files = [baseline(tmp_path / f"{i}.json", three[i], prompts=said)
             for i, said in enumerate((texts, texts, {**texts, "p00": ["another", ""]}))]
    of = read_trend(files, guidance=3.0)
    assert of.segments(PROMOTED, "clip_score") == [[0, 1], [2]]
    assert of.changed(2, "clip_score") == ["prompts"]


def test_a_file_and_a_run_are_never_held_to_be_measured_alike(tmp_path: Path, three: list[Path]) -> None:
    of = read_trend([three[0], baseline(tmp_path / "b.json", three[1])])
    assert of.changed(1, "clip_score") == ["prompts not on record", "metric not on record"]


def test_prompts_that_an_older_file_lacks_are_not_on_record(tmp_path: Path, three: list[Path]) -> None:
    of = read_trend([baseline(tmp_path / "a.json", three[0]), baseline(tmp_path / "b.json", three[1])])
    assert "prompts not on record" in of.changed(1)


def edited(file: Path) -> None:
    file.write_text(file.read_text().replace('"version": 2', '"version": 3'))


@pytest.mark.parametrize(("spoil", "said"), [
    (edited, "was changed after it was written"), (lambda f: f.write_text("{"), "cannot be read as a baseline"),
    (lambda f: f.write_text("[]"), "as a baseline file"), (lambda f: f.unlink(), "does not exist")])
def test_a_spoilt_baseline_file_is_refused_by_name(tmp_path: Path, three: list[Path], spoil: Callable[[Path], object],
                                                   said: str) -> None:
    file = baseline(tmp_path / "b.json", three[0])
    spoil(file)
    with pytest.raises((ValueError, OSError), match=said) as error:
        read_trend([three[0], file])
    assert "b.json" in str(error.value)


def test_malformed_cells_are_refused_by_name(tmp_path: Path, three: list[Path]) -> None:
    file = baseline(tmp_path / "b.json", three[0], cells={"columns": ["prompt", "guidance"], "rows": [["p", "x"]]})
    with pytest.raises(ValueError, match="is not what a promotion writes"):
        read_trend([file])


def test_two_suites_are_no_trend(tmp_path: Path, three: list[Path]) -> None:
    with pytest.raises(ValueError, match="of one suite, and these are of 2: 'dress'"):
        read_trend([three[0], write(tmp_path, 9, suite=small(name="other"))])


def test_a_run_without_a_date_is_named(tmp_path: Path) -> None:
    run = write(tmp_path, 1)
    head = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**head, "started": "yesterday"}))
    with pytest.raises(ValueError, match="does not say when its run started \\('yesterday'\\)"):
        read_trend([run])


def test_the_csv_has_every_estimate_in_full_and_no_formula(tmp_path: Path, three: list[Path]) -> None:
    of = read_trend([*three, write(tmp_path, 4, environment={"git_commit": "=cmd()"})])
    lines = list(tables.DictReader(io.StringIO(csv(of))))
    assert len(lines) == sum(len(p.estimates) for p in of.points)
    first = next(line for line in lines if (line["series"], line["value"]) == ("alpha=0", "clip_score"))
    assert float(first["mean"]) == of.points[0].estimates["alpha=0", "clip_score"].mean
    assert {line["commit"] for line in lines if line["date"].startswith("2026-01-04")} == {"'=cmd()"}


def test_a_run_in_which_nothing_was_measured_has_a_page_without_a_figure(tmp_path: Path) -> None:
    folder = write(tmp_path, 1)
    (folder / "journal.jsonl").write_text("")
    of = read_trend([folder])
    assert of.values == ()
    assert 'id="figure-trend"' not in page(of)
    assert "day1" in csv(of)


def trace_count(of: Trend) -> int:
    return sum(len(of.segments(s, v)) for s in of.series for v in of.values)


def test_the_figure_shows_one_series_at_a_time_in_a_panel_for_each_value(three: list[Path]) -> None:
    of = read_trend(three)
    figure = lines_plot(of)
    assert len(figure.data) == trace_count(of)
    assert sum(t.visible for t in figure.data) == sum(len(of.segments(PICK, v)) for v in of.values)
    assert [c["label"] for c in figure.layout.meta["switch"]["choices"]] == list(of.series)


def test_the_page_asks_for_nothing_and_hostile_words_do_not_act(tmp_path: Path) -> None:
    run = write(tmp_path, 1, suite=replace(synthetic.hostile_suite(), candidates=small().candidates),
                environment={"git_commit": "</script><b>", "device_name": "\x1b[31m"})
    text = page(read_trend([run]))
    assert "default-src &#39;none&#39;" in text
    assert "\x1b" not in text
    assert "<b>suite" not in text
    assert "</script><b>" not in text


def test_one_timed_round_has_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "bytes_of", lambda *_: SimpleNamespace(value=None, why_missing="not measured"))
    for rounds, expected in (((0.5,), (None, None)), ((0.5, 0.7), (0.5, 0.7))):
        run = SimpleNamespace(latency={"a": SimpleNamespace(seconds={"total": rounds})})
        timed = series._costs(run, "a")["seconds_per_image"]  # type: ignore[arg-type]
        assert (timed.low, timed.high) == expected
