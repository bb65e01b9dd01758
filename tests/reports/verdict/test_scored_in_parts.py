"""Prompts that are longer than the CLIP model of the scores reads at once are named, with the number of parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

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
