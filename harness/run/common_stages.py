"""Which of a candidate's stages, counted from the first, other candidates of its suite have too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from harness.declare import Candidate, Suite, short_hash
from harness.declare.effective_grid import grid_of, sampled_as


@dataclass(frozen=True, kw_only=True)
class Beginnings:
    """How often candidates of a suite are declared alike up to a stage. Nothing is counted where no candidate has several."""

    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, suite: Suite) -> Beginnings:
        """Those of a suite's candidates."""
        if not any(candidate.stages for candidate in suite.candidates):
            return cls()
        return cls(counts=Counter(key for candidate in suite.candidates for key in _keys(suite, candidate)))

    def in_common(self, suite: Suite, candidate: Candidate) -> tuple[bool, ...]:
        """For each stage, from the first: whether another candidate is declared alike up to it."""
        if not self.counts:
            return ()
        own = any(candidate.name == other.name for other in suite.candidates)
        return tuple(self.counts[key] > own for key in _keys(suite, candidate))


def _keys(suite: Suite, candidate: Candidate) -> Iterator[str]:
    """A hash for each stage, from the first, of how a candidate is declared up to it and how its first stage is sampled."""
    sampled = sampled_as(grid_of(suite, candidate))
    for count in range(len(candidate.stages) + 1):
        yield short_hash([replace(candidate, stages=candidate.stages[:count], post=(), sampling=None).key, sampled])
