"""The contents of the files that the candidates of a race are made of."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace

from harness.declare import Candidate, Suite
from harness.materialise import Workbench


def race_files(suite: Suite, bench: Workbench, not_offered: Collection[str] = ()) -> dict[str, str]:
    """The contents by name, also those of the search's models; empty if the suite has no budget. Files of a candidate that cannot
    be read are left out: it makes no image."""
    if suite.budget is None:
        return {}
    search = () if suite.search is None else (Candidate(name="search", model=replace(suite.search.merge, alpha=0.5)),)
    contents: dict[str, str] = {}
    for candidate in (*suite.candidates, *search):
        if candidate.name not in not_offered:
            with suppress(OSError, ValueError):
                contents |= bench.weights(candidate).inputs
    return contents
