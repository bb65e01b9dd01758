"""What workers that share a cache say of themselves before their first image: whose images nobody would find is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from harness.cache import ImageCache
from harness.declare import Candidate, Suite, short_hash
from harness.declare.same_text import prompts_hash
from harness.executors.alike import differing
from harness.probes.environment import deciding_pixels
from harness.records import Weights
from harness.records.harmless_text import printable
from harness.records.owner import myself
from harness.runtimes import packages_of

_FILES: Final = 300
"""The most files of a candidate that are announced: a note is small."""
_MACHINE: Final = "environment"
_SAMPLING: Final = "sampling"
_PROMPTS: Final = "prompts"


@dataclass(frozen=True, kw_only=True)
class Announcements:
    """The announcements of a suite's candidates in a cache: who made images of them first, in which environment, of which
    files, and sampled how. `sampling` is the sampling block of the suite's own grid."""

    cache: ImageCache
    suite: Suite
    environment: Mapping[str, Any]
    sampling: Mapping[str, Any]

    def other(self, candidate: Candidate, weights: Weights) -> str:
        """In what this process differs from the one that announced a candidate, in words; empty if in nothing that can change an
        image, or if nobody did."""
        note = self.cache.note(self._key(candidate))
        if note is None:  # a cache that cannot be reached has none either
            return ""
        here = self._facts(candidate)
        there = {name: note.get(name, value) for name, value in here.items()}  # earlier versions announced less
        inputs = note.get("inputs")
        if not isinstance(inputs, Mapping) or not all(isinstance(there[name], Mapping) for name in (_MACHINE, _SAMPLING)):
            return ""
        try:
            there[_MACHINE] = self._machine(there[_MACHINE], candidate)
            phrases = [phrase for name in (_MACHINE, _SAMPLING) if (
                phrase := differing(here[name], there[name], "there it is"))]
        except (RecursionError, TypeError, ValueError, AttributeError):  # not as `put` writes it
            return ""
        if here[_PROMPTS] != there[_PROMPTS]:
            phrases.append("the prompts of the suite are others")
        files = sorted(name for name in inputs.keys() & weights.inputs.keys() if inputs[name] != weights.inputs[name])
        phrases += [f"the file {printable(name)} is another one" for name in files[:3]]
        by = printable(note.get("by", "a process that is not on record"))
        return f"compared with {by}: {'; '.join(phrases)}" if phrases else ""

    def put(self, candidate: Candidate, weights: Weights, *, over: bool) -> bool:
        """Announces a candidate with what its images follow from here, if nobody did or, with `over`, in place of what somebody
        did. Returns whether the cache has an announcement now."""
        content = {"by": str(myself()), "inputs": dict(sorted(weights.inputs.items())[:_FILES]), **self._facts(candidate)}
        key = self._key(candidate)
        added = not over and self.cache.add_note(key, content)
        if over or (not added and self.cache.note(key) is None):  # one that cannot be read does not count
            self.cache.put_note(key, content)
        return self.cache.note(key) is not None

    def _facts(self, candidate: Candidate) -> dict[str, Any]:
        return {_MACHINE: self._machine(self.environment, candidate),
                _SAMPLING: dict(self.sampling), _PROMPTS: prompts_hash(self.suite.grid.prompts)}

    def _machine(self, facts: Mapping[str, Any], candidate: Candidate) -> dict[str, Any]:
        """What decides pixels, of an environment or of what was announced of one."""
        device = str(facts.get("device")).partition(":")[0]
        return deciding_pixels(facts, packages_of(candidate.runtime)) | {"device": device}

    def _key(self, candidate: Candidate) -> str:
        return short_hash(["announced", self.suite.name, candidate.key])
