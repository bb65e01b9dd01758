"""The costs of a run's candidates: which are timed, which together, and which records are written to the journal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from harness.declare import Candidate, Suite, grid_of
from harness.declare.listing import first_of
from harness.declare.same_text import prompts_hash
from harness.materialise import Workbench
from harness.probes import CurveLimits, Rounds
from harness.probes.environment import deciding_seconds
from harness.records import Durations, Failure, Fit, Latency, Reading, Record
from harness.records.reusable import TIME
from harness.run.latency import (
    ROUNDS_FOR_P90,
    SUPERSEDED,
    TIMING_VERSION,
    Together,
    time_batches,
    time_together,
    timing_setting,
)
from harness.run.stages import Stages
from harness.runtimes import packages_of
from harness.sampling import threads_for

if TYPE_CHECKING:
    from harness.materialise import Prepared


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

    def settings(self, names: Sequence[str]) -> dict[str, str]:
        """The hash of its timing by the name of each candidate whose weights are known."""
        return {c.name: self._setting(c.name) for c in self.suite.candidates
                if c.name in names and self.stages.ledger.identity(c.name)}

    def _why_superseded(self, latency: Latency) -> str:
        """Why a timing does not count any more, if an earlier version took it and all else is the same; else empty."""
        return next((f"their earlier timings are {why}" for version, why in SUPERSEDED.items()
                     if latency.setting == self._setting(latency.candidate, version)), "")

    def _setting(self, name: str, version: int = TIMING_VERSION) -> str:
        ledger, weights = self.stages.ledger, self.stages.ledger.weights(name)
        identity = "" if weights is None else weights.of(self.suite.grid.prompts[0].id)
        return timing_setting(self.suite, self._declared(name), identity, self.environment, version,
                              ledger.chunked(name, prompts_hash(self.suite.grid.prompts)))

    def _deciding(self, name: str) -> dict[str, Any]:
        """What of the environment can change how long an image of a candidate takes."""
        return deciding_seconds(self.environment, packages_of(self._declared(name).runtime))

    def _declared(self, name: str) -> Candidate:
        return next(candidate for candidate in self.suite.candidates if candidate.name == name)

    def due(self, names: Sequence[str]) -> bool:
        """Whether the journal lacks latencies of these candidates that were taken together and in this environment. One that
        failed to be timed does not make the others due again."""
        ledger = self.stages.ledger
        settings = {name: key for name, key in self.settings(names).items() if ledger.timing_failure(name) is None}
        latencies = [ledger.latency(name) for name in settings]
        alike = [latency.timed_at for latency, setting in zip(latencies, settings.values(), strict=True)
                 if latency is not None and latency.setting == setting]
        return len(alike) < len(settings) or len({*alike}) > 1

    def why_again(self, names: Sequence[str]) -> str:
        """Why earlier latencies of these candidates are not used; empty if there are none, or nothing is against them."""
        settings, ledger = self.settings(names), self.stages.ledger
        earlier = {name: latency for name in settings if (latency := ledger.last_latency(name)) is not None}
        void = [latency for name, latency in earlier.items() if latency.setting != settings[name]]
        if any(not latency.environment for latency in void):
            return "their earlier timings do not say which versions of torch, CUDA, driver and Sweetspot they were taken with"
        if why := next(filter(None, map(self._why_superseded, void)), ""):
            return why
        for latency in void:
            if changed := _differences(latency.environment, self._deciding(latency.candidate)):
                return f"their earlier timings were taken with another environment ({first_of(changed, between='; ')})"
        if void:
            return "their earlier timings were taken with other settings or weights"
        return self._why_apart(settings, earlier)

    @staticmethod
    def _why_apart(settings: Mapping[str, str], earlier: Mapping[str, Latency]) -> str:
        """Why earlier latencies that count each by itself are not compared; empty if they are."""
        untimed = [name for name in settings if name not in earlier]
        if earlier and untimed:
            were = "was" if len(untimed) == 1 else "were"
            return f"{first_of(untimed, 1)} {were} not timed yet, and only what is timed together is compared"
        if len({latency.timed_at for latency in earlier.values()}) > 1:
            return "they were timed apart, and only what is timed together is compared"
        return ""

    def time(self, names: Sequence[str]) -> list[Failure]:
        """Times the named candidates together, in alternating rounds; then measures their batch-size curves, if the suite asks
        for them. Returns a Failure for each candidate that cannot be timed."""
        suite, ledger = self.suite, self.stages.ledger
        settings = self.settings(names)
        if not settings:
            return []
        declared = {c.name: c for c in suite.candidates}
        rounds = Rounds(declared=suite.latency_rounds, budget_seconds=suite.latency_budget_seconds,
                        enough=ROUNDS_FOR_P90 if suite.latency_budget_seconds else suite.latency_rounds)
        together = self._together(settings, rounds)
        with self._threads(settings):
            records = [self._with_load(record, declared) for record in time_together(
                suite, lambda name: self._switch(declared[name]), together)]
            failures = [record for record in records if isinstance(record, Failure)]
            failed = {failure.candidate for failure in failures}
            # Written together with its curve, so that both are of one timing.
            for name, key in settings.items():
                curve: list[Record] = []
                before = len(failures)
                if suite.largest_batch and name not in failed:
                    with self.stages.stage(name, TIME, failures):
                        curve += self._curve(declared[name], key)
                # A latency voids an earlier failure, so that of its own curve comes after it.
                ledger.add([*(record for record in records if record.candidate == name), *curve, *failures[before:]])
        return failures

    def try_again(self, names: Sequence[str]) -> list[Failure]:
        """Tries candidates that an earlier session could not time, each alone and once, without keeping what it takes. Returns a
        Failure for each that still cannot be timed."""
        declared, failures = {c.name: c for c in self.suite.candidates}, list[Failure]()
        for name, key in self.settings(names).items():
            curve_failed = self.stages.ledger.latency(name) is not None
            with self._threads([name]):
                if curve_failed:
                    with self.stages.stage(name, TIME, failures):
                        self._curve(declared[name], key)
                    continue
                records = time_together(self.suite, lambda name: self._switch(declared[name]),
                                        self._together({name: key}, Rounds(declared=1)))
            failures += [record for record in records if isinstance(record, Failure)]
            self.stages.ledger.add([record for record in records if isinstance(record, Failure | Fit)])
        return failures

    def _together(self, settings: Mapping[str, str], rounds: Rounds) -> Together:
        return Together(device=self.device, rounds=rounds, settings=settings, idle=self.idle,
                        timed_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                        environments={name: self._deciding(name) for name in settings})

    def _curve(self, candidate: Candidate, key: str) -> Sequence[Record]:
        with self._threads([candidate.name]):
            return time_batches(candidate.name, self.bench.prepare(candidate), self.suite, key,
                                CurveLimits(batch_size=self.suite.largest_batch), self.idle)

    def _threads(self, names: Iterable[str]) -> AbstractContextManager[None]:
        """Within it, operations use one thread if the images of all these candidates are small."""
        grids = [grid_of(self.suite, self._declared(name)) for name in names]
        return threads_for(max(grids, key=lambda grid: grid.width * grid.height), self.device)

    def _switch(self, candidate: Candidate) -> Prepared:
        """The candidate that is timed next, ready to sample."""
        self.stages.begin(candidate.name, TIME)
        return self.bench.prepare(candidate)

    def _with_load(self, record: Record, declared: Mapping[str, Candidate]) -> Record:
        """The durations of a candidate, with the seconds that its architecture took to load if this session loaded it, and those
        of its runtime."""
        if not isinstance(record, Durations):
            return record
        loaded = self.bench.load_seconds(declared[record.candidate])
        return replace(record, seconds={**record.seconds, **({"load": loaded} if loaded else {}),
                                        **self.bench.runtime_seconds(declared[record.candidate])})


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """"torch 2.9 -> 2.10" for every fact that is not the same in both, packages by their names."""
    then, here = _flat(before), _flat(now)
    return [f"{name} {then.get(name, 'not stated')} -> {here.get(name, 'not stated')}" for name in dict.fromkeys([*then, *here])
            if then.get(name) != here.get(name)]


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts with those of inner mappings beside the others."""
    return {name: value for outer, fact in facts.items()
            for name, value in (fact.items() if isinstance(fact, Mapping) else ((outer, fact),))}
