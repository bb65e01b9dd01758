"""The prompts of a run as their images depend on them."""

from __future__ import annotations

from collections.abc import Collection

from harness.declare import Prompt, short_hash
from harness.declare.picture_uses import PICTURES, names_of
from harness.declare.prompt_texts import texts_in_key
from harness.declare.same_text import prompts_hash
from harness.records.reusable import chunked_places
from reports.read.run import Run


def prompts_of(run: Run) -> dict[str, tuple[str, str]]:
    """{identifier: text and negative text} of a run's prompts, with how they were read where that is not plainly: what a text
    encoder cut off in an earlier version is another prompt now that it is read. So is one that brings other adapters."""
    chunked = chunked_places(run.coverage, prompts_hash(run.suite.grid.prompts))
    return {p.id: _with_adapters(p, *texts_in_key(p, chunked)) for p in run.suite.grid.prompts}


def _with_adapters(prompt: Prompt, text: str, negative: str) -> tuple[str, str]:
    return (f"{text}\n[adapters {short_hash(prompt.adapters)}]" if prompt.adapters else text), negative


def pictures_of(run: Run, candidates: Collection[str] | None = None) -> dict[str, dict[str, str]]:
    """{identifier: {name: hash of the content}} of the pictures of a run's prompts that any of these candidates uses, or any at
    all; prompts without such pictures are left out."""
    used = {name for c in run.suite.candidates if candidates is None or c.name in candidates for name in names_of(c)}
    contents = run.head.get(PICTURES, {})
    return {p.id: own for p in run.suite.grid.prompts
            if (own := {name: str(contents.get(file, "")) for name, file in sorted(p.pictures.items()) if name in used})}
