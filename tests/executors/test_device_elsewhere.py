"""A run whose own process has not the device: workers say what it is, and one of them measures on it while the others idle."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import Candidate, Objective, Suite
from harness.executors.contract import Event, Job, Unit, Worker
from harness.executors.crew import NoWorkerError
from harness.executors.maker import Maker
from harness.probes.available import DeviceMemory
from harness.probes.environment import environment
from harness.records import BatchCurve, Failure, Finished, Latency, Memory, Sample, Weights
from harness.records.measured_on import measured_on
from harness.run.progress import Silent
from harness.session.suite_session import SuiteSession
from reports import load_run
from reports.page.worker_table import worker_section
from tests.executors.in_threads import WorkerEnds, work_in_threads
from tests.fakes import PROMPTS, plain_candidate, tiny_grid, tiny_suite
from tests.painted import PaintedBench, paint_runs, pass_time
from tests.race.painted import session_options

GIB = 2 ** 30
A100, H100 = "NVIDIA A100", "NVIDIA H100"


@dataclass
class Cluster:
    """What the nodes are, and what happens on them. `models` are those of the workers' GPUs, one each; `upset` is called on a
    worker with its number and the candidate that it times next."""

    models: list[str] = field(default_factory=lambda: [A100, A100])
    packages: Mapping[str, str] = field(default_factory=dict)
    uuids: Mapping[int, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    upset: Callable[[int, str], None] = lambda number, name: None
    started: list[int] = field(default_factory=list)
    timing: list[tuple[int, str]] = field(default_factory=list)
    making: set[int] = field(default_factory=set)
    beside: list[set[int]] = field(default_factory=list)
    """Who made images whenever something was timed."""


class Node:
    """A worker with a GPU, which is painted on this machine's CPU."""

    idle = None

    def __init__(self, job: Job, number: int, cluster: Cluster) -> None:
        cluster.started.append(number)
        self.job, self.number, self.cluster = replace(job, device="cpu"), number, cluster
        cluster_bench = type("NodeBench", (NodeBench,), {"number": number, "cluster": cluster})
        self.maker = Maker(grid=job.suite.grid, new_bench=lambda: cluster_bench.for_grid(
            job.suite.grid, device="cuda:0", root=Path(job.root)))

    def about(self) -> dict[str, Any]:
        facts = environment("cpu")
        model = self.cluster.models[self.number % len(self.cluster.models)]
        uuid = self.cluster.uuids.get(self.number, f"GPU-{self.number}")
        return {"host": f"node-{self.number}", "pid": 100 + self.number, "device": "cuda:0", "environment": {
            **facts, "packages": {**facts["packages"], **self.cluster.packages}, "device": "cuda:0", "device_name": model,
            "device_uuid": uuid, "driver": "570", "cpu_capability": "AVX2", "threads_per_operation": "torch's default"}}

    def make(self, unit: Unit) -> Iterator[Event]:
        self.cluster.making.add(self.number)
        try:
            yield from self.maker.make(unit)
        finally:
            self.cluster.making.discard(self.number)

    def differing(self, candidate: Candidate, announced: Weights) -> str:
        return "" if self.maker.bench.weights(candidate).identity == announced.identity else "not the run's files: model"


class NodeBench(PaintedBench):
    number: int
    cluster: Cluster

    def load_seconds(self, _: Candidate) -> tuple[float, ...]:
        return ()

    def runtime_seconds(self, _: Candidate) -> dict[str, tuple[float, ...]]:
        return {}


class DriverBench(PaintedBench):
    """That of the run's own process, which makes nothing."""

    def prepare(self, candidate: Candidate, group: int = 0) -> Any:
        raise AssertionError(f"the driver made {candidate.name}")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A driver without a GPU, all of whose uses of CUDA are errors, and workers that have one."""
    nodes = Cluster()
    paint_runs(monkeypatch, DriverBench)

    def worker_of(job: Job, number: int) -> Worker:
        return Node(job, number, nodes)

    work_in_threads(monkeypatch, worker_of)
    monkeypatch.setattr("harness.executors.workers.device_problem", lambda device: f"device {device}: there is none here")
    memory = DeviceMemory(name=A100, total=80 * GIB, free=70 * GIB)
    monkeypatch.setattr("harness.run.errands.device_memory", lambda device: memory)
    monkeypatch.setattr("harness.executors.room.Room._free_bytes", lambda _: None)
    monkeypatch.setattr("harness.run.errands.refusal", lambda candidate, device: nodes.refused.get(candidate.name, ""))
    for name in ("get_device_properties", "get_device_name", "mem_get_info", "synchronize", "empty_cache", "memory_reserved",
                 "current_stream", "Event", "_lazy_init", "set_per_process_memory_fraction", "current_device"):
        monkeypatch.setattr(torch.cuda, name, _refuse(name))

    def timed(phases: Any, *rest: Any) -> None:
        nodes.beside.append(set(nodes.making))
        pass_time(phases, *rest)

    monkeypatch.setattr("harness.run.latency.time_one", timed)
    real = NodeBench.prepare

    def prepare(bench: NodeBench, candidate: Candidate, group: int = 0) -> Any:
        if threading.current_thread().name == "sweetspot-errand":
            nodes.timing.append((bench.number, candidate.name))
            nodes.upset(bench.number, candidate.name)
        return real(bench, candidate, group)

    monkeypatch.setattr(NodeBench, "prepare", prepare)
    return nodes


def _refuse(name: str) -> Callable[..., Any]:
    def refuse(*_: object, **__: object) -> Any:
        raise AssertionError(f"torch.cuda.{name} was used by a process without a GPU")

    return refuse


def suite(**changes: Any) -> Suite:
    return tiny_suite(**{"candidates": (plain_candidate("photo"), plain_candidate("anime", model="zoo:anime")),
                         "baseline": "photo", "gates": (), "metrics": ("exposure", "psnr"),
                         "objective": Objective(maximise="saturation", penalties=()),
                         "grid": tiny_grid(prompts=PROMPTS[:2], guidance_scales=(4,)), **changes})


def go(root: Path, declared: Suite, workers: str = "ray:2", **options: Any) -> tuple[list[Failure], list[str]]:
    """A session of a suite with its timing: its failures, and what it said."""
    said: list[str] = []
    of = SuiteSession(declared, "s.py", session_options(root, device="cuda", workers=workers, **options), Silent(),
                      say=said.append)
    of.select(declared.candidates)
    try:
        assert of.preflight() == []
        of.remarks()
        failures = [failure for c in declared.candidates if c.name in of.selected for failure in of.candidate(c)]
        return [*failures, *of.costs()], said
    finally:
        of.close()


def head(root: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((root / "runs" / "tiny" / "run.json").read_text())
    return facts


def records(root: Path, kind: type) -> list[Any]:
    from harness.records import Journal

    return [record for record in Journal(root / "runs" / "tiny" / "journal.jsonl").read()[0] if isinstance(record, kind)]


def test_one_worker_measures_while_all_others_idle_and_is_named(cluster: Cluster, tmp_path: Path) -> None:
    failures, said = go(tmp_path, suite(largest_batch=0))
    assert failures == []
    (number,) = {number for number, _ in cluster.timing}
    assert cluster.beside and not any(cluster.beside)
    assert {latency.candidate for latency in records(tmp_path, Latency)} == {"photo", "anime"}
    assert {memory.candidate for memory in records(tmp_path, Memory)} == {"photo", "anime"}
    (place,) = measured_on(head(tmp_path))
    assert (place.by, place.host, place.process, place.device, place.model, place.uuid) == (
        "worker", f"node-{number}", 100 + number, "cuda:0", A100, f"GPU-{number}")
    assert {latency.timed_at for latency in records(tmp_path, Latency)} == {place.timed_at}
    assert any(f"timed on host node-{number}, process {100 + number}, cuda:0 (NVIDIA A100)" in line for line in said)
    environs = head(tmp_path)["environment"]
    assert (environs["device"], environs["device_name"], environs["driver"]) == ("cuda", A100, "570")
    assert "device_uuid" not in environs
    assert head(tmp_path)["sampling"]["device_model"] == A100


def test_a_second_session_measures_nothing_and_one_on_another_worker_of_that_model_neither(
        cluster: Cluster, tmp_path: Path) -> None:
    go(tmp_path, suite())
    cluster.uuids = {0: "GPU-other", 1: "GPU-another"}
    timings = len(cluster.timing)
    assert go(tmp_path, suite())[0] == []
    assert len(cluster.timing) == timings
    assert len(records(tmp_path, Latency)) == 2


def test_a_resumed_run_measures_on_the_model_of_before_where_a_worker_has_it(cluster: Cluster, tmp_path: Path) -> None:
    go(tmp_path, suite())
    cluster.models = [H100, A100]
    _, said = go(tmp_path, suite(), retime=True)
    assert head(tmp_path)["environment"]["device_name"] == A100
    assert [place.model for place in measured_on(head(tmp_path))] == [A100, A100]
    assert measured_on(head(tmp_path))[1].host == "node-1"
    assert len(records(tmp_path, Sample)) == 4
    assert any("worker 0" in line and "H100" in line and "does not take part" in line for line in said)


def test_on_another_model_earlier_timings_and_images_are_set_aside_by_name(cluster: Cluster, tmp_path: Path) -> None:
    go(tmp_path, suite())
    cluster.models = [H100]
    _, said = go(tmp_path, suite())
    assert any(A100 in line and H100 in line and "sampled again" in line for line in said)
    assert any("timing 2 candidates together again" in line and f"device_name {A100} -> {H100}" in line for line in said)
    assert len({latency.timed_at for latency in load_run(tmp_path / "runs" / "tiny").latency.values()}) == 1


def test_a_worker_that_ends_while_it_measures_is_replaced_by_one_of_its_model_which_measures_all(
        cluster: Cluster, tmp_path: Path) -> None:
    def end(number: int, name: str) -> None:
        if number == cluster.timing[0][0] and name == "anime":
            raise WorkerEnds("the node is gone")

    cluster.upset = end
    assert go(tmp_path, suite())[0] == []
    first = cluster.timing[0][0]
    assert [name for number, name in cluster.timing if number == first] == ["photo", "anime"]
    (second,) = {number for number, _ in cluster.timing} - {first}
    assert {name for number, name in cluster.timing if number == second} == {"photo", "anime"}
    (place,) = measured_on(head(tmp_path))
    assert place.host == f"node-{second}"
    assert len(records(tmp_path, Latency)) == 2


def test_a_candidate_that_ends_every_worker_fails_and_the_others_are_timed(cluster: Cluster, tmp_path: Path) -> None:
    def end(number: int, name: str) -> None:
        if name == "anime":
            raise WorkerEnds("a kernel crashed")

    cluster.upset = end
    failures, _ = go(tmp_path, suite())
    assert [(failure.candidate, failure.stage, failure.error) for failure in failures] == [("anime", "time", "WorkerLost")]
    assert {latency.candidate for latency in records(tmp_path, Latency)} == {"photo"}


def test_a_candidate_that_the_device_does_not_offer_is_left_out_as_in_one_process(cluster: Cluster, tmp_path: Path) -> None:
    cluster.refused = {"anime": "fp8_dynamic is not offered on cuda: this GPU has compute capability 8.0"}
    assert go(tmp_path, suite())[0] == []
    assert head(tmp_path)["not_offered"] == cluster.refused
    assert {finished.candidate for finished in records(tmp_path, Finished)} == {"photo"}


def test_batches_that_fit_are_chosen_by_the_memory_of_the_worker(cluster: Cluster, tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    memories: list[int] = []
    monkeypatch.setattr("harness.run.fitted_batch.planned", lambda *_: [])
    monkeypatch.setattr("harness.run.fitted_batch.fitting_batch", lambda rows, of, memory: memories.append(memory) or 2)
    go(tmp_path, suite(grid=tiny_grid(prompts=PROMPTS[:2], guidance_scales=(4,), batch_size="fit")))
    assert memories == [70 * GIB]
    assert head(tmp_path)["fitted_batch"]["device"] == A100
    assert head(tmp_path)["sampling"]["batch_size"] == 2


def test_workers_with_other_versions_than_the_run_are_refused_before_the_first_image(cluster: Cluster, tmp_path: Path) -> None:
    cluster.packages = {"diffusers": "0.1"}
    here = environment("cpu")["packages"]["diffusers"]
    with pytest.raises(NoWorkerError, match=rf"host node-.*diffusers is 0\.1 there and {here} here"):
        go(tmp_path, suite())
    assert not (tmp_path / "runs" / "tiny" / "journal.jsonl").exists()


def test_builds_of_one_version_for_a_cpu_and_for_cuda_are_one_version(cluster: Cluster, tmp_path: Path) -> None:
    cluster.packages = {"torch": environment("cpu")["packages"]["torch"].partition("+")[0] + "+cu126"}
    assert go(tmp_path, suite())[0] == []


def test_a_batch_size_curve_is_taken_on_the_worker(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[str] = set()

    def curve(candidate: str, *_: object, **__: object) -> Sequence[object]:
        threads.add(threading.current_thread().name)
        return [BatchCurve(candidate=candidate, points=(), stopped="", setting="x")]

    monkeypatch.setattr("harness.run.timer.time_batches", curve)
    go(tmp_path, suite(largest_batch=2))
    assert threads == {"sweetspot-errand"}
    assert {one.candidate for one in records(tmp_path, BatchCurve)} == {"photo", "anime"}


def test_the_page_says_in_its_section_on_workers_where_was_measured(cluster: Cluster, tmp_path: Path) -> None:
    go(tmp_path, suite())
    section = worker_section(load_run(tmp_path / "runs" / "tiny"))
    assert section is not None
    assert f"by a worker on {measured_on(head(tmp_path))[0].name}" in section["measured"]


@pytest.mark.parametrize(("device", "workers", "asked"), [
    ("cuda", "ray:auto", True), ("cuda", "ray:2", True), ("cuda", "", False), ("cuda", "local:2", False),
    ("cuda:1", "ray", False)])
def test_only_workers_of_other_machines_are_asked_for_a_device_that_this_one_has_not(
        device: str, workers: str, asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.executors.workers import run_device_problem

    monkeypatch.setattr("harness.executors.workers.device_problem", lambda device: f"device {device}: there is none here")
    assert (run_device_problem(device, workers) == "") is asked
