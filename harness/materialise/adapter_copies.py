"""Adapters of one candidate whose files hold the same bytes, so that one adapter would act twice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from harness.declare import Adapter, Candidate
from harness.materialise.library import Library, frame_of, fusings_of


def copies_problem(candidate: Candidate, library: Library) -> str:
    """Names two adapters of a candidate that are copies of one file and act at the same steps; empty if there are none."""
    model = library.open(frame_of(candidate.model))
    for listed in (candidate.adapters, *(fused.adapters for fused in fusings_of(candidate.model))):
        # Copies of a textual inversion are two words, which are the names of their files.
        adapters = [adapter for adapter in listed if not library.adapter(adapter.path, model).embeddings]
        if pair := _copies(adapters, library):
            return (f"adapters {pair[0]!r} and {pair[1]!r} are copies of one file, so it would act more strongly than either "
                    "weight says; give it once, or for other steps")
    return ""


def _copies(adapters: Sequence[Adapter], library: Library) -> tuple[str, str] | None:
    """The paths of the first two copies. Only files of one size are read."""
    for one, other in combinations(adapters, 2):
        together = max(one.start, other.start) < min(one.end, other.end)
        if together and _size(one, library) == _size(other, library) and (
                library.content(one.path) == library.content(other.path)):
            return one.path, other.path
    return None


def _size(adapter: Adapter, library: Library) -> int:
    path = library.path(adapter.path)
    return -1 if path.is_dir() else path.stat().st_size
