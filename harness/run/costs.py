"""The costs of a run's candidates: which are timed, which together, and which records are written to the journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.declare import Candidate, Suite
from harness.materialise import Workbench
from harness.probes import CurveLimits, Rounds
from harness.records import Durations, Failure, Reading, Record
from harness.run.latency import ROUNDS_FOR_P90, Together, time_batches, time_together, timing_setting
from harness.run.stages import Stages
from harness.sampling import threads_for

if TYPE_CHECKING:
    from harness.materialise import Phase


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Times candidates of `suite` on the workbench. `idle` is the number of bytes in use on the device before this run loaded
    anything; `environment` is the description of the machine in run.json."""

    suite: Suite
    bench: Workbench
    stages: Stages
    environment: Mapping[str, Any]
    device: str
    idle: Reading | None

    def time(self, names: Sequence[str]) -> list[Failure]:
        """Times the named candidates together, in alternating rounds, unless the journal already has their latency; then measures
        their batch-size curves, if the suite asks for them. Returns a Failure for each candidate that cannot be timed."""
        suite, ledger = self.suite, self.stages.ledger
        settings = {c.name: timing_setting(suite, ledger.identity(c.name), self.environment)
                    for c in suite.candidates if c.name in names and ledger.latency(c.name) is None and ledger.identity(c.name)}
        if not settings:
            return []
        declared = {c.name: c for c in suite.candidates}
        rounds = Rounds(declared=suite.latency_rounds, budget_seconds=suite.latency_budget_seconds,
                        enough=ROUNDS_FOR_P90 if suite.latency_budget_seconds else suite.latency_rounds)
        together = Together(device=self.device, rounds=rounds, settings=settings, idle=self.idle)
        with threads_for(suite.grid, self.device):
            records = [self._with_load(record, declared) for record in time_together(
                suite, lambda name: self._switch(declared[name]), together)]
            failures = [record for record in records if isinstance(record, Failure)]
            failed = {failure.candidate for failure in failures}
            # Written together with its curve: a candidate with a latency is not timed again.
            for name, key in settings.items():
                curve: list[Record] = []
                if suite.largest_batch and name not in failed:
                    with self.stages.stage(name, "time", failures):
                        curve += time_batches(name, self.bench.prepare(declared[name]).phases, suite, key,
                                              CurveLimits(batch_size=suite.largest_batch))
                ledger.add([*(record for record in records if record.candidate == name), *curve])
        return failures

    def _switch(self, candidate: Candidate) -> Sequence[Phase]:
        """The phases of the candidate that is timed next."""
        self.stages.begin(candidate.name, "time")
        return self.bench.prepare(candidate).phases

    def _with_load(self, record: Record, declared: Mapping[str, Candidate]) -> Record:
        """The durations of a candidate, with the seconds that its architecture took to load if this session loaded it."""
        if not isinstance(record, Durations):
            return record
        loaded = self.bench.load_seconds(declared[record.candidate])
        return replace(record, seconds={**record.seconds, "load": loaded}) if loaded else record
