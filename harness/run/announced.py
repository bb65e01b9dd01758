"""What workers that share a cache say of themselves before their first image: whose images nobody would find is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from harness.cache import ImageCache
from harness.declare import Candidate, short_hash
from harness.executors.alike import difference
from harness.executors.contract import Job
from harness.probes.environment import deciding_pixels
from harness.records import Weights
from harness.records.harmless_text import printable
from harness.records.owner import myself
from harness.runtimes import packages_of

_FILES: Final = 300
"""The most files of a candidate that are announced: a note is small."""


@dataclass(frozen=True, kw_only=True)
class Announcements:
    """The announcements of a suite's candidates in a cache: who made images of them first, in which environment, of which
    files."""

    cache: ImageCache
    job: Job

    def other(self, candidate: Candidate, weights: Weights) -> str:
        """In what this process differs from the one that announced a candidate, in words; empty if in nothing that can change an
        image, or if nobody did."""
        note = self.cache.note(self._key(candidate))
        if note is None:  # also where there is no cache
            return ""
        environment, inputs = note.get("environment"), note.get("inputs")
        if not isinstance(environment, Mapping) or not isinstance(inputs, Mapping):
            return ""
        try:
            there = replace(self.job, environment=environment)
            differing = difference(there, {"environment": self._environment})
        except (RecursionError, TypeError, ValueError, AttributeError):  # not as `put` writes it
            return ""
        files = sorted(name for name in inputs.keys() & weights.inputs.keys() if inputs[name] != weights.inputs[name])
        phrases = [*([differing.replace(", in the run it is", ", there it is")] if differing else []),
                   *(f"the file {printable(name)} is another one" for name in files[:3])]
        by = printable(note.get("by", "a process that is not on record"))
        return f"compared with {by}: {'; '.join(phrases)}" if phrases else ""

    def put(self, candidate: Candidate, weights: Weights) -> bool:
        """Announces a candidate with what its images follow from here. Returns whether the cache has the announcement now."""
        self.cache.put_note(self._key(candidate), {
            "by": str(myself()), "environment": self._environment, "inputs": dict(sorted(weights.inputs.items())[:_FILES])})
        return self.cache.note(self._key(candidate)) is not None

    @property
    def _environment(self) -> Mapping[str, Any]:
        facts = self.job.environment
        runtimes = sorted({package for candidate in self.job.suite.candidates for package in packages_of(candidate.runtime)})
        deciding = deciding_pixels(facts, runtimes)
        return {**deciding, "device": str(facts["device"]).partition(":")[0],
                "packages": {**deciding["packages"], "sweetspot": facts["packages"].get("sweetspot")}}

    def _key(self, candidate: Candidate) -> str:
        return short_hash(["announced", self.job.suite.name, candidate.key])
