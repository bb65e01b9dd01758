"""The prompts of a run as their images depend on them."""

from __future__ import annotations

from harness.declare.prompt_texts import texts_in_key
from harness.declare.same_text import prompts_hash
from harness.records.reusable import chunked_places
from reports.read.run import Run


def prompts_of(run: Run) -> dict[str, tuple[str, str]]:
    """{identifier: text and negative text} of a run's prompts, with how they were read where that is not plainly: what a text
    encoder cut off in an earlier version is another prompt now that it is read."""
    chunked = chunked_places(run.coverage, prompts_hash(run.suite.grid.prompts))
    return {p.id: texts_in_key(p, chunked) for p in run.suite.grid.prompts}
