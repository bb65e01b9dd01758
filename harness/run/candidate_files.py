"""What the files of a run's candidates say before anything is made of them, and what of it is put on record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from harness.declare import Candidate, Suite
from harness.declare.prompt_groups import declared_key
from harness.declare.same_text import prompts_hash
from harness.materialise import MaterialiseError, WiderFormats, Workbench
from harness.records import Weights
from harness.records.reusable import chunked_places
from harness.run.latency import timing_setting
from harness.run.overflow import IN_BF16, entry_of
from harness.run.prompt_reading import PromptReadings, read_grid
from harness.run.run_json import RunJson
from harness.run_folder.ledger import Ledger


@dataclass(kw_only=True)
class CandidateFiles:
    """The files of candidates. `equal` says by name what is wrong with those that have the weights of another, and `in_bf16` is
    what run.json says of those that overflow in fp16."""

    run_json: RunJson
    ledger: Ledger
    bench: Callable[[], Workbench]
    wider: WiderFormats
    equal: Callable[[], Mapping[str, str]]
    in_bf16: Mapping[str, Any]
    _readings: PromptReadings = field(default_factory=PromptReadings)

    @property
    def _suite(self) -> Suite:
        return self.run_json.suite

    def announce(self, candidate: Candidate, *, fresh: bool) -> Weights:
        """Reads a candidate's files and records its weights; if `fresh`, forgets what is on record of it before."""
        bench = self.bench()
        bench.inspect(candidate)
        if problem := self.equal().get(candidate.name):
            raise MaterialiseError(problem)
        if problem := self.text_problem(candidate):
            raise MaterialiseError(problem)
        weights = bench.weights(candidate)
        if fresh:
            self.ledger.forget(candidate.name)
        reading = self._readings.of(candidate, read_grid(self._suite, candidate), bench)
        coverage = [] if reading is None else [replace(reading.row, candidate=candidate.name)]
        self._record(candidate, weights, chunked_places(coverage, self._prompts))
        self._note_format(candidate, weights.identity)
        for row in coverage:  # which prompts of the suite, as it is now, fit the candidate's text encoder
            self.ledger.cover_prompts(row)
        return weights

    def known(self, candidate: Candidate) -> bool:
        """Whether the files of a candidate of an earlier session are those that its images were made of. If so, records how it is
        timed now."""
        try:
            weights = self.bench().weights(candidate)
        except (OSError, ValueError):
            return False
        if weights.identity != self.ledger.identity(candidate.name):
            return False
        self._record(candidate, weights, self.ledger.chunked(candidate.name, self._prompts))
        return True

    def text_problem(self, candidate: Candidate) -> str:
        """What is wrong with the prompts as the inspected candidate's text encoders read them."""
        reading = self._readings.of(candidate, read_grid(self._suite, candidate), self.bench())
        return "" if reading is None else reading.problem

    @cached_property
    def _prompts(self) -> str:
        return prompts_hash(self._suite.grid.prompts)

    def _record(self, candidate: Candidate, weights: Weights, chunked: frozenset[str]) -> None:
        """Puts a candidate's weights on record, with how it is declared and timed."""
        prompts = self._suite.grid.prompts
        self.ledger.announce(replace(weights, declared=declared_key(candidate, prompts), setting=timing_setting(
            self._suite, candidate, weights.of(prompts[0].id), self.run_json.facts["environment"], chunked=chunked)))

    def _note_format(self, candidate: Candidate, identity: str) -> None:
        """Says in run.json whether a candidate runs in bf16 because it overflows in fp16."""
        entries = {name: entry for name, entry in self.in_bf16.items() if name != candidate.name}
        if candidate in self.wider:
            entries[candidate.name] = entry_of(self.wider.known[candidate.name], identity)
        if entries != self.in_bf16:
            self.in_bf16 = entries
            self.run_json.note(**{IN_BF16: entries})
