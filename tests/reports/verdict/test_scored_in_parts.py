"""Prompts that are longer than the CLIP model of the scores reads at once are named, with the number of parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.records import Journal, Measurement
from reports.read.run import load_run
from reports.verdict.cells import caveats, score_cells
from tests.reports import synthetic


@pytest.mark.parametrize(("parts", "named", "counts"), [
    ({}, None, ""), ({1: 2}, 1, "in 2 parts"), ({0: 3, 1: 2}, 2, "in 2 or 3 parts")])
def test_the_page_says_which_prompts_were_scored_in_parts(parts: dict[int, int], named: int | None, counts: str,
                                                          tmp_path: Path) -> None:
    run = load_run(synthetic.write_run(tmp_path, synthetic.merge_suite()))
    prompts = [prompt.id for prompt in run.suite.grid.prompts]
    column = run.images["prompt"].map({prompts[place]: count for place, count in parts.items()})
    long = replace(run, images=run.images.assign(clip_text_parts=column)) if parts else run
    sentences = [text for text in caveats(long, score_cells(long)) if "longer than the model of the CLIP score" in text]
    assert len(sentences) == (named is not None)
    for text in sentences:
        assert f"{named} of {len(prompts)} prompts" in text
        assert counts in text
        assert all(prompts[place] in text for place in parts)


@pytest.mark.parametrize(("parts", "counts"), [(2, True), (1, False), (-3, False), ("2", False), (True, False), (10**30, False)])
def test_the_number_of_parts_is_read_from_the_journal_where_a_run_can_have_written_it(parts: object, *, counts: bool,
                                                                                      tmp_path: Path) -> None:
    suite = synthetic.merge_suite()
    journal = Journal(synthetic.write_run(tmp_path, suite) / "journal.jsonl")
    old = next(r for r in journal.read()[0] if isinstance(r, Measurement) and r.metric == "clip_score")
    journal.add([replace(old, details={"clip_text_parts": parts})])
    run = load_run(tmp_path)
    sentences = [text for text in caveats(run, score_cells(run)) if "longer than the model of the CLIP score" in text]
    assert [f"1 of {len(suite.grid.prompts)} prompts" in text and "in 2 parts" in text for text in sentences] == [True] * counts
