"""A process without a GPU has others, which have one, make and measure a whole run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.executors.contract import Job
from harness.executors.crew import Crew
from harness.executors.local import LocalHands, Place
from harness.records import Durations, Journal, Latency, Memory, Power, Sample
from harness.records.costs import STORED
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from tests.executors.simulated_worker import MAKER
from tests.fakes import plain_candidate, tiny_grid, tiny_suite
from tests.rehearsal.driver import CONTEXT_BYTES, with_driver

SUITE = tiny_suite(candidates=(plain_candidate("photo"), plain_candidate("anime", model="zoo:anime", quantization="fp32")),
                   baseline="photo", gates=(), metrics=("exposure",), latency_rounds=1,
                   grid=tiny_grid(prompts=tiny_grid().prompts[:1], seeds=(1, 2), guidance_scales=(4,), batch_size=2))


def run(root: Path, workers: str) -> list[Any]:
    """The journal of a run with its timing."""
    of = SuiteRun(SUITE, "", Options(root=root, runs=root, device="cuda", workers=workers), Silent())
    try:
        assert of.preflight() == []
        of.ahead([(candidate, None) for candidate in SUITE.candidates])
        for candidate in SUITE.candidates:
            assert not isinstance(of.candidate(candidate), list)
        assert of.costs([c.name for c in SUITE.candidates]) == []
    finally:
        of.close()
    return Journal(of.folder / "journal.jsonl").read()[0]


@pytest.mark.slow
def test_the_images_are_those_of_a_process_with_the_gpu_and_the_costs_are_the_workers(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crew_of(asked: str, job: Job, **rest: Any) -> Crew:
        place = Place(device="cuda:0", variables={"PYTHON_CPU_COUNT": "1"})
        return Crew(LocalHands([place], MAKER), job, 1, **rest)

    assert not torch.cuda.is_available()
    monkeypatch.setattr("harness.run.suite_run.crew_of", crew_of)
    many = run(tmp_path / "many", "ray:1")
    with with_driver():
        one = run(tmp_path / "one", "")
    assert {(s.candidate, s.cell, s.key, s.sha256) for s in many if isinstance(s, Sample)} == {
        (s.candidate, s.cell, s.key, s.sha256) for s in one if isinstance(s, Sample)}
    for kind in (Latency, Memory, Power, Durations):
        assert {record.candidate for record in many if isinstance(record, kind)} == {"photo", "anime"}
    of_workers, of_one = ({m.candidate: {r.name: r.value for r in m.readings} for m in records if isinstance(m, Memory)}
                          for records in (many, one))
    assert of_workers["photo"][STORED] == of_one["photo"][STORED] < of_workers["anime"][STORED]
    reserved = of_workers["photo"]["torch_reserved_peak_bytes"]
    assert of_workers["photo"]["nvml_process_peak_bytes"] == CONTEXT_BYTES + reserved
