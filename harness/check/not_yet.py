"""Words that can be declared and are not supported yet. They are refused, so that nothing is left out in silence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.declare import Candidate

FIELDS: Final = ("inpaint",)


def not_yet(candidate: Candidate) -> Iterator[str]:
    """One phrase per word of a candidate that this version does not know what to do with."""
    every = (candidate, *candidate.stages)
    for name in FIELDS:
        if any(getattr(one, name, ()) for one in every):
            yield f"{name} cannot be sampled by this version"
