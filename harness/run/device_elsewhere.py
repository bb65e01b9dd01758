"""The device of a run whose own process has it not: workers say what it is, and one of them measures on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from harness.declare import Suite
from harness.executors.alike import place_of
from harness.executors.contract import Errand
from harness.executors.crew import NOBODY, NoWorkerError
from harness.executors.with_crew import ErrandError, WithCrew
from harness.materialise import WiderFormats
from harness.probes.available import DeviceMemory
from harness.probes.environment import deciding_seconds, environment
from harness.probes.rounds import Rounds
from harness.records import Record
from harness.records.harmless_text import printable
from harness.records.measured_on import MeasuredOn
from harness.run.errands import REPORT, TAKE_TIMES, DeviceReport, Timing, Timings
from harness.run.latency import Together
from harness.run.timer import failure_of
from harness.run_folder.ledger import Ledger

LOST: Final = "WorkerLost"
_SAME_VERSIONS: Final = ("torch", "diffusers", "transformers", "peft", "torchao", "sweetspot")
_OF_THE_RUN: Final = ("git_commit", "git_dirty")
"""Facts that say which state of the project was run."""
_OF_ONE_DEVICE: Final = "device_uuid"


@dataclass(kw_only=True)
class DeviceElsewhere:
    """`device` is its name in the run. It is asked for before anything else."""

    crew: WithCrew
    device: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the worker is that was asked first."""
    report: DeviceReport | None = None

    def ask(self, suite: Suite, model: str) -> None:
        """Asks a worker what the device is, one of this model if there is any: an earlier session's. Raises NoWorkerError."""
        errand = Errand(does=REPORT, given=(self.device, suite.candidates))
        try:
            self.report, self.facts = self.crew.errand(errand, lambda facts: not model or _model(facts) == model)
        except ErrandError as error:
            if not (model and error.failed.error == NOBODY):
                raise NoWorkerError(printable(f"no worker can say what its device is: {error}")) from error
            self.ask(suite, "")
            return
        if wrong := _other_versions(environment(), self.facts["environment"]):
            raise NoWorkerError(f"the worker on {place_of(self.facts)} has other versions than this process: {wrong}. Install "
                                "the same ones there and here")

    @property
    def memory(self) -> DeviceMemory:
        """The memory of the device."""
        assert self.report is not None
        return self.report.memory

    @property
    def not_offered(self) -> Mapping[str, str]:
        """By name the candidates that the device does not offer, with the reason."""
        assert self.report is not None
        return self.report.not_offered

    def environment(self) -> dict[str, Any]:
        """The environment of the run: that of the worker, but for the state of the project, and for which of several GPUs of one
        model it is."""
        here, there = environment(), dict(self.facts["environment"])
        missing = {name: why for name, why in there.pop("missing", {}).items() if name not in _OF_THE_RUN}
        facts = {name: fact for name, fact in there.items() if name not in (*_OF_THE_RUN, _OF_ONE_DEVICE)}
        own = {name: here[name] for name in _OF_THE_RUN if name in here}
        return {**facts, **own, "device": self.device, "missing": {
            **missing, **{name: here["missing"][name] for name in _OF_THE_RUN if name in here["missing"]},
            _OF_ONE_DEVICE: "images are made by several workers; see measured_on for the GPU that was timed"}}

    def can_time(self, facts: Mapping[str, Any], run: Mapping[str, Any]) -> int:
        """Whether a worker's timings are those of the environment of the run; 2 if it is the one that was asked first."""
        there = {**facts["environment"], "device": self.device}
        there.pop(_OF_ONE_DEVICE, None)
        asked = all(facts.get(name) == self.facts.get(name) for name in ("host", "pid"))
        return 0 if deciding_seconds(there) != deciding_seconds(run) else 1 + asked


@dataclass(kw_only=True)
class WorkerTimer:
    """Has one worker take timings while all others idle (see timer.Timer). If it is lost, another one of the same model takes all
    of them. `environment` is that of the run, and `begin` is called with the candidate that is timed next."""

    elsewhere: DeviceElsewhere
    suite: Suite
    ledger: Ledger
    wider: WiderFormats
    environment: Mapping[str, Any]
    begin: Callable[[str], None]
    _worker: Mapping[str, Any] = field(default_factory=dict)
    """What the worker is that took the last timings."""

    def place(self, timed_at: str) -> MeasuredOn | None:
        """Where the last timings were taken, which bear this time; None if nobody could take them."""
        return MeasuredOn.worker(timed_at, self._worker) if self._worker else None

    def time(self, together: Together, *, curves: bool) -> Iterator[tuple[str, Sequence[Record]]]:
        """See timer.Timer. A candidate at which several workers ended fails, and the others are timed without it."""
        left = dict(together.settings)
        while left:
            try:
                timings = self._taken(self._timing(replace(together, settings=left), curves=curves))
            except _TimingError as error:
                timings = [(name, [failure_of(name, error.failed)]) for name in (
                    [error.culprit] if error.culprit in left else left)]
            yield from timings
            left = {name: key for name, key in left.items() if name not in dict(timings)}

    def curve(self, name: str, key: str) -> Sequence[Record]:
        """See timer.Timer."""
        together = Together(device=self.elsewhere.device, rounds=Rounds(declared=1), settings={name: key})
        try:
            return [record for _, records in self._taken(replace(self._timing(together, curves=True), alone=name))
                    for record in records]
        except _TimingError as error:
            return [failure_of(name, error.failed)]

    def _timing(self, together: Together, *, curves: bool) -> Timing:
        known = {name: self.ledger.weights(name) for name in together.settings}
        return Timing(suite=self.suite, together=together, curves=curves,
                      weights={name: weights for name, weights in known.items() if weights is not None},
                      in_bf16={c.name: self.wider.known[c.name].why for c in self.suite.candidates
                               if c.name in together.settings and c in self.wider})

    def _taken(self, timing: Timing) -> Timings:
        begun, ended_at = [""], set[str]()

        def news(value: object) -> None:
            if isinstance(value, str):
                begun[0] = value
                self.begin(value)

        def lost(_: str) -> None:
            ended_at.add(begun[0])

        try:
            taken, self._worker = self.elsewhere.crew.errand(
                Errand(does=TAKE_TIMES, given=timing), lambda facts: self.elsewhere.can_time(facts, self.environment), news, lost)
        except ErrandError as error:
            raise _TimingError(error, ended_at) from error
        timings: Timings = taken
        return timings


class _TimingError(Exception):
    def __init__(self, error: ErrandError, ended_at: set[str]) -> None:
        failed = error.failed
        if failed.error == NOBODY:
            failed = replace(failed, message="no worker is left of the model and with the versions on which this run is timed "
                                             f"({failed.message})")
        super().__init__(failed.message)
        self.failed = failed
        self.culprit = next(iter(ended_at)) if failed.error == LOST and len(ended_at) == 1 else ""
        """The one candidate at which all workers ended."""


def _model(facts: Mapping[str, Any]) -> object:
    of = facts.get("environment")
    return of.get("device_name") if isinstance(of, Mapping) else None


def _other_versions(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """The packages of which a worker has another version, in words; empty if none. Builds of one version are one, for a CPU and
    for CUDA."""
    one, two = ({name: str(facts.get("packages", {}).get(name)).partition("+")[0] for name in _SAME_VERSIONS}
                for facts in (here, there))
    return printable("; ".join(f"{name} is {two[name]} there and {one[name]} here" for name in _SAME_VERSIONS
                               if one[name] != two[name]))
