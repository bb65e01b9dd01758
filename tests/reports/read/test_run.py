"""Reading a run folder: which records count, what is derived, and what is said about the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.declare import Grid
from harness.records import Failure, Finished, Journal, Measurement, Sample
from reports.read.run import Run, load_run
from tests.reports import synthetic


def small(folder: Path, **changes: object) -> Path:
    suite = synthetic.merge_suite(grid=Grid(prompts=synthetic.prompts(2, 1), seeds=(1,), guidance_scales=(3.0,)))
    return synthetic.write_run(folder, suite, **changes)  # type: ignore[arg-type]


def first_sample(folder: Path) -> Sample:
    records, _ = Journal(folder / "journal.jsonl").read()
    return next(r for r in records if isinstance(r, Sample))


def test_the_table_has_one_row_per_image_with_axis_text_split_and_values(merge_run: Run) -> None:
    assert len(merge_run.images) == 7 * 12 * 2 * 5
    row = merge_run.images.iloc[0]
    assert (row["candidate"], row["alpha"], row["split"]) == ("alpha=0", 0.0, "select")
    assert {"clip_score", "clipped_share", "dominant", "clusters"} <= set(merge_run.images.columns)


def test_the_objective_is_the_score_minus_its_penalties(merge_run: Run) -> None:
    row = merge_run.images.sort_values("clipped_share").iloc[-1]
    expected = row["clip_score"] - 100 * max(0, row["clipped_share"] - 0.05) - 5 * row["palette_left"]
    assert row["objective"] == pytest.approx(expected)


def test_an_image_left_the_palette_when_its_colour_is_not_the_usual_one_of_its_prompt(merge_run: Run) -> None:
    rows = merge_run.images[(merge_run.images["candidate"] == "alpha=0.3") & (merge_run.images["prompt"] == "p00")]
    usual = rows["dominant"].mode()[0]
    assert ((rows["dominant"] != usual) == (rows["palette_left"] == 1)).all()


def test_a_value_of_the_objective_that_is_missing_makes_it_missing_and_counted(tmp_path: Path) -> None:
    folder = small(tmp_path)
    sample = first_sample(folder)
    Journal(folder / "journal.jsonl").add([Measurement(
        sample=sample.key, candidate=sample.candidate, cell=sample.cell, metric="clip_score", version=1,
        setting=synthetic.CLIP, values={"tokens_dropped": 0.0}, missing={"clip_score": "the text is empty"})])
    run = load_run(folder)
    assert np.isnan(run.images.iloc[0]["objective"])
    assert ("clip_score", 1, "the text is empty") in {(g.value, g.count, g.why) for g in run.missing}
    assert ("objective", 1, "no clip_score") in {(g.value, g.count, g.why) for g in run.missing}


def test_a_failure_is_void_once_its_candidate_finished(tmp_path: Path) -> None:
    folder = small(tmp_path)
    journal = Journal(folder / "journal.jsonl")
    journal.add([Failure(candidate="alpha=0", stage="sample", error="E", message="m")])
    assert load_run(folder).failure_of("alpha=0") == 'failed at "sample" (E: m)'
    journal.add([Finished(candidate="alpha=0", identity="i", sampled=0, reused=3, seconds=1.0)])
    assert load_run(folder).failures == ()


def test_damaged_lines_are_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    folder = small(tmp_path)
    with (folder / "journal.jsonl").open("a") as file:
        file.write('{"kind": "sample", "key"')
    run = load_run(folder)
    assert len(run.damaged) == 1
    assert len(run.images) == 7 * 3


def test_the_table_does_not_depend_on_the_order_in_which_an_image_was_measured(tmp_path: Path) -> None:
    folder = small(tmp_path)
    before = load_run(folder).images
    lines = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
    places = [place for place, line in enumerate(lines) if '"clusters"' in line or '"clip_score"' in line]
    for one, other in zip(places[::2], places[1::2], strict=True):
        lines[one], lines[other] = lines[other], lines[one]
    (folder / "journal.jsonl").write_text("".join(lines))
    after = load_run(folder).images
    assert [*after.columns] == [*before.columns]
    assert after.to_csv() == before.to_csv()


def test_candidates_left_out_by_selection_are_named_as_such(tmp_path: Path) -> None:
    folder = small(tmp_path, not_selected=["alpha=1"])
    lines = (folder / "journal.jsonl").read_text().splitlines()
    (folder / "journal.jsonl").write_text("\n".join(line for line in lines if '"alpha=1"' not in line) + "\n")
    assert [(g.value, g.why) for g in load_run(folder).missing if g.candidate == "alpha=1"] == [
        ("image", "not selected for this run")]


def test_a_run_without_any_image_still_loads(tmp_path: Path) -> None:
    folder = small(tmp_path)
    (folder / "journal.jsonl").unlink()
    run = load_run(folder)
    assert len(run.images) == 0
    assert len(run.missing) == 7
