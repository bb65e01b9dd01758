"""The costs of a run's candidates: which are timed, which together, and which records are written to the journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from harness.declare import Candidate, Suite
from harness.declare.listing import first_of
from harness.declare.same_text import prompts_hash
from harness.probes import Rounds
from harness.probes.environment import deciding_seconds
from harness.records import Failure, Fit, Latency
from harness.run.latency import ROUNDS_FOR_P90, SUPERSEDED, TIMING_VERSION, Together, timing_setting
from harness.run.timer import Timer
from harness.run_folder.ledger import Ledger
from harness.runtimes import packages_of


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Has candidates of `suite` timed. `environment` is the description of the machine in run.json, and `timed` is called with
    the time that timings bear."""

    suite: Suite
    timer: Timer
    ledger: Ledger
    environment: Mapping[str, Any]
    device: str
    timed: Callable[[str], None]

    def settings(self, names: Sequence[str]) -> dict[str, str]:
        """The hash of its timing by the name of each candidate whose weights are known."""
        return {c.name: self._setting(c.name) for c in self.suite.candidates
                if c.name in names and self.ledger.identity(c.name)}

    def _why_superseded(self, latency: Latency) -> str:
        """Why a timing does not count any more, if an earlier version took it and all else is the same; else empty."""
        return next((f"their earlier timings are {why}" for version, why in SUPERSEDED.items()
                     if latency.setting == self._setting(latency.candidate, version)), "")

    def _setting(self, name: str, version: int = TIMING_VERSION) -> str:
        ledger, weights = self.ledger, self.ledger.weights(name)
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
        ledger = self.ledger
        settings = {name: key for name, key in self.settings(names).items() if ledger.timing_failure(name) is None}
        latencies = [ledger.latency(name) for name in settings]
        alike = [latency.timed_at for latency, setting in zip(latencies, settings.values(), strict=True)
                 if latency is not None and latency.setting == setting]
        return len(alike) < len(settings) or len({*alike}) > 1

    def why_again(self, names: Sequence[str]) -> str:
        """Why earlier latencies of these candidates are not used; empty if there are none, or nothing is against them."""
        settings, ledger = self.settings(names), self.ledger
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
        suite, settings = self.suite, self.settings(names)
        if not settings:
            return []
        rounds = Rounds(declared=suite.latency_rounds, budget_seconds=suite.latency_budget_seconds,
                        enough=ROUNDS_FOR_P90 if suite.latency_budget_seconds else suite.latency_rounds)
        together, failures = self._together(settings, rounds), list[Failure]()
        # Each written together with its curve, so that both are of one timing.
        for _, records in self.timer.time(together, curves=bool(suite.largest_batch)):
            failures += [record for record in records if isinstance(record, Failure)]
            self.ledger.add(records)
        self.timed(together.timed_at)
        return failures

    def try_again(self, names: Sequence[str]) -> list[Failure]:
        """Tries candidates that an earlier session could not time, each alone and once, without keeping what it takes. Returns a
        Failure for each that still cannot be timed."""
        failures = list[Failure]()
        for name, key in self.settings(names).items():
            if self.ledger.latency(name) is not None:  # its curve failed
                records = [*self.timer.curve(name, key)]
            else:
                once = self._together({name: key}, Rounds(declared=1))
                records = [record for _, of_one in self.timer.time(once, curves=False) for record in of_one]
            failures += [record for record in records if isinstance(record, Failure)]
            self.ledger.add([record for record in records if isinstance(record, Failure) or (
                isinstance(record, Fit) and self.ledger.latency(name) is None)])
        return failures

    def _together(self, settings: Mapping[str, str], rounds: Rounds) -> Together:
        return Together(device=self.device, rounds=rounds, settings=settings,
                        timed_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                        environments={name: self._deciding(name) for name in settings})


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """"torch 2.9 -> 2.10" for every fact that is not the same in both, packages by their names."""
    then, here = _flat(before), _flat(now)
    return [f"{name} {then.get(name, 'not stated')} -> {here.get(name, 'not stated')}" for name in dict.fromkeys([*then, *here])
            if then.get(name) != here.get(name)]


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts with those of inner mappings beside the others."""
    return {name: value for outer, fact in facts.items()
            for name, value in (fact.items() if isinstance(fact, Mapping) else ((outer, fact),))}
