"""What run.json says in words is made harmless before it becomes a caveat."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports.read.run import load_run
from reports.verdict.cells import caveats, score_cells
from tests.reports import synthetic

HOSTILE = "gates \x1b[2J\u202e left out"


@pytest.mark.parametrize("entry", ["not_counted", "in_bf16"])
def test_no_word_of_it_acts_on_a_terminal(entry: str, tmp_path: Path) -> None:
    run = load_run(synthetic.write_run(tmp_path, synthetic.merge_suite()))
    name, weights = next(iter(run.weights.items()))
    entries: dict[str, Any] = {"not_counted": HOSTILE, "in_bf16": {name: {"identity": weights.identity, "why": HOSTILE}}}
    sentences = caveats(replace(run, head={**run.head, entry: entries[entry]}), score_cells(run))
    assert any("left out" in text for text in sentences)
    assert all(text.isprintable() for text in sentences)
