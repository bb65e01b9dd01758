"""What one worker does besides images, for a run whose own process has not the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from harness.declare import Candidate, Suite
from harness.executors.contract import Failed
from harness.executors.served import Served
from harness.probes.available import DeviceMemory, device_memory
from harness.records import Record, Weights
from harness.records.reusable import TIME
from harness.run.device_refusals import refusal
from harness.run.latency import Together
from harness.run.timer import BenchTimer, failure_of

REPORT: Final = "harness.run.errands:report"
TAKE_TIMES: Final = "harness.run.errands:take_times"

Timings: TypeAlias = "list[tuple[str, Sequence[Record]]]"


@dataclass(frozen=True, kw_only=True)
class DeviceReport:
    """What a worker's device has: its memory, and by name the candidates that it does not offer, with the reason."""

    memory: DeviceMemory
    not_offered: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Which candidates of a suite are timed, and how. `weights` are those that the run announced, and `in_bf16` says why
    candidates do not run in fp16. With `alone`, only the batch-size curve of that candidate is taken."""

    suite: Suite
    together: Together
    weights: Mapping[str, Weights]
    in_bf16: Mapping[str, str]
    curves: bool
    alone: str = ""


def report(worker: Served, given: tuple[str, Sequence[Candidate]], _: Callable[[object], None]) -> DeviceReport:
    """What the device is, by the name that the run has for it, and which of these candidates it does not offer."""
    device, candidates = given
    return DeviceReport(memory=device_memory(worker.job.device),
                        not_offered={c.name: reason for c in candidates if (reason := refusal(c, device))})


def take_times(worker: Served, given: Timing, tell: Callable[[object], None]) -> Timings:
    """Times candidates as the process of a run does; one whose files are others here fails. Tells which is timed next."""
    maker = worker.maker
    maker.forget()
    declared = {c.name: c for c in given.suite.candidates}
    for name, why in given.in_bf16.items():
        if declared[name] not in maker.bench.wider:
            maker.bench.widen(declared[name], why)
    others = {name: why for name, announced in given.weights.items() if (why := worker.differing(declared[name], announced))}
    settings = {name: key for name, key in given.together.settings.items() if name not in others}
    timer = BenchTimer(suite=given.suite, bench=maker.bench, device=worker.job.device, idle=worker.idle, begin=tell)
    timings: Timings = [(name, [failure_of(name, Failed(stage=TIME, error="OtherFiles", message=why))])
                        for name, why in others.items()]
    if given.alone and settings:
        timings.append((given.alone, timer.curve(given.alone, settings[given.alone])))
    elif settings:
        timings += timer.time(replace(given.together, settings=settings), curves=given.curves)
    return timings
