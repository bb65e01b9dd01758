"""Prompts that the text encoder reads in chunks, but the CLIP model of the scores only in part, are a caveat of the verdict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reports.read.run import load_run
from reports.verdict.cells import caveats, score_cells
from tests.reports import synthetic


@pytest.mark.parametrize(("dropped", "named"), [({}, None), ({1: 0}, None), ({1: 5}, 1), ({0: 3, 1: 5}, 2)])
def test_what_the_score_does_not_read_is_said(dropped: dict[int, int], named: int | None, tmp_path: Path) -> None:
    run = load_run(synthetic.write_run(tmp_path, synthetic.merge_suite()))
    prompts = [prompt.id for prompt in run.suite.grid.prompts]
    counts = {prompts[place]: float(count) for place, count in dropped.items()}
    long = replace(run, images=run.images.assign(tokens_dropped=run.images["prompt"].map(counts).fillna(0.0)))
    sentences = [text for text in caveats(long, score_cells(long)) if "does not read the ends" in text]
    assert len(sentences) == (named is not None)
    for text in sentences:
        assert f"{named} of {len(prompts)} prompts" in text
        assert all(prompts[place] in text for place, count in dropped.items() if count)
