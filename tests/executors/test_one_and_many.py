"""Whoever makes the images, a run has the same: images, keys, journal, table and looks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import Objective, Suite, alpha_sweep
from harness.declare import Adapter, Candidate, Temperature, Upscale
from harness.executors.contract import Job, Worker
from harness.records import Coverage, Defect, Failure, Finished, Fit, Journal, Look, NoiseFloor, Sample
from harness.records.worker_sessions import worker_sessions
from harness.run.batch_packing import in_order
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from harness.sampling import NOT_FINITE
from harness.session.session import Session
from tests.executors.in_threads import maker_of, work_in_threads
from tests.fakes import PROMPTS, plain_candidate, tiny_grid, tiny_suite
from tests.painted import PaintedBench, paint, paint_runs
from tests.race.painted import DeclaredBench, session_options
from tests.race.painted import go as race
from tests.race.painted import suite as race_suite

MANY = (*alpha_sweep("zoo:photo", "zoo:anime", (0, 0.5, 1)),
        plain_candidate("plain"),
        plain_candidate("warm", post=(Temperature(max_kelvin=4000),)), plain_candidate("large", post=(Upscale(factor=1.5),)),
        plain_candidate("sketch", adapters=(Adapter(path="zoo:sketch", weight=0.5),)))


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> None:
    paint_runs(monkeypatch)


@pytest.fixture(autouse=True)
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    work_in_threads(monkeypatch)


def suite(**changes: Any) -> Suite:
    return tiny_suite(**{"candidates": MANY, "gates": (), "metrics": ("exposure", "psnr"), **changes})


def go(root: Path, declared: Suite, workers: str = "", only: int | None = None, **options: Any) -> dict[str, Any]:
    """The candidates of a suite one after the other, as a session takes them; with `only`, so many of them."""
    run = SuiteRun(declared, "s.py", Options(root=root, runs=root / "runs", workers=workers, **options), Silent())
    try:
        ordered = in_order(declared)
        run.ahead([(candidate, None) for candidate in ordered])
        return {candidate.name: run.candidate(candidate) for candidate in ordered[:only]}
    finally:
        run.close()


def records(root: Path, *kinds: type) -> list[Any]:
    return [record for record in Journal(root / "runs" / "tiny" / "journal.jsonl").read()[0] if isinstance(record, kinds)]


def content(root: Path) -> dict[str, Any]:
    """What must not depend on who makes images."""
    fits = records(root, Fit)
    return {
        "images": {(s.candidate, s.cell): (s.key, s.sha256) for s in records(root, Sample)},
        "rest": sorted(map(repr, {*map(str, records(root, Coverage, Defect, NoiseFloor))})),
        "fits": sorted((fit.candidate, fit.batch_size, fit.fits) for fit in fits),
        "failures": sorted((f.candidate, f.stage, f.error, f.message) for f in records(root, Failure)),
        "finished": {f.candidate: (f.sampled, f.reused) for f in records(root, Finished)}}


def both(tmp_path: Path, declared: Suite) -> dict[str, Any]:
    """The content of a run with three workers, which is that of a run without."""
    go(tmp_path / "one", declared)
    go(tmp_path / "many", declared, "local:3")
    one, many = content(tmp_path / "one"), content(tmp_path / "many")
    assert many == one
    return many


@pytest.mark.usefixtures("painted")
def test_several_workers_make_what_one_process_makes_and_each_image_once(tmp_path: Path) -> None:
    assert both(tmp_path, suite())["images"]
    sampled = records(tmp_path / "many", Sample)
    assert len(sampled) == len({(s.candidate, s.cell) for s in sampled})


@pytest.mark.usefixtures("painted")
def test_a_run_that_was_stopped_goes_on_with_another_number_of_workers(tmp_path: Path) -> None:
    go(tmp_path / "one", suite())
    for only, workers in ((1, "local:2"), (3, ""), (None, "local:3")):
        go(tmp_path / "many", suite(), workers, only)
    assert content(tmp_path / "many")["images"] == content(tmp_path / "one")["images"]
    sampled = records(tmp_path / "many", Sample)
    assert len(sampled) == len({(s.candidate, s.cell) for s in sampled})


@pytest.mark.usefixtures("painted")
def test_a_fresh_run_makes_every_image_of_every_candidate_again(tmp_path: Path) -> None:
    go(tmp_path / "many", suite())
    done = go(tmp_path / "many", suite(), "local:2", fresh=True)
    assert {name: (one.sampled, one.reused) for name, one in done.items()} == dict.fromkeys(done, (10, 0))


def test_a_race_takes_the_same_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint_runs(monkeypatch, DeclaredBench)
    race(tmp_path / "one", race_suite())
    race(tmp_path / "many", race_suite(), workers="local:2")
    assert records(tmp_path / "many", Look) == records(tmp_path / "one", Look)
    assert content(tmp_path / "many")["images"] == content(tmp_path / "one")["images"]


class Broken(PaintedBench):
    """The candidate "alpha=0.5" cannot be made."""

    def prepare(self, candidate: Candidate, group: int = 0) -> Any:
        if candidate.name == "alpha=0.5":
            raise RuntimeError("a part is missing")
        return super().prepare(candidate, group)


def test_a_candidate_that_fails_in_a_worker_fails_as_in_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint_runs(monkeypatch, Broken)
    assert both(tmp_path, suite())["failures"] == [("alpha=0.5", "materialise", "RuntimeError", "a part is missing")]


def refused_at(size: int, name: str) -> Any:
    """Sampling that refuses batches of `size` images with guidance to the candidate `name`."""
    import numpy as np

    def refusing(phases: Any, grid: Any, todo: Any, texts: object = None, broken: Any = None, later: Any = None) -> Iterator[Any]:
        for cells, images in paint(phases, grid, todo, texts, broken, later):
            if len(cells) >= size and cells[0].guidance != 1 and phases[0].of == name:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has 8 GiB")
            yield cells, np.asarray(images)

    return refusing


class Named(PaintedBench):
    """What is prepared knows the candidate's name."""

    def prepare(self, candidate: Candidate, group: int = 0) -> Any:
        prepared = super().prepare(candidate, group)
        prepared.phases[0].of = candidate.name
        return prepared


def test_a_candidate_that_fails_while_another_worker_makes_its_earlier_images_fails_as_in_one_process(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()

    def failing(phases: Any, grid: Any, todo: Any, texts: object = None, broken: Any = None, later: Any = None) -> Iterator[Any]:
        for number, (cells, images) in enumerate(paint(phases, grid, todo, texts, broken, later)):
            if cells[0].guidance != 1:
                failed.set()
                raise RuntimeError("a part is missing")
            if threading.current_thread() is not threading.main_thread():
                assert failed.wait(60 if number else 0.2) or not number  # the rest is worth sharing once a batch has taken time
            yield cells, images

    paint_runs(monkeypatch)
    monkeypatch.setattr("harness.executors.maker.sample", failing)
    alone = suite(candidates=MANY[:1], grid=tiny_grid(prompts=PROMPTS[:1], seeds=tuple(range(16)), batch_size=1))
    content = both(tmp_path, alone)
    assert content["failures"] == [("alpha=0", "sample", "RuntimeError", "a part is missing")]
    assert len(content["images"]) == 16


@pytest.mark.parametrize("name", ["alpha=0", "alpha=0.5", "sketch"])
def test_memory_refused_in_a_worker_gives_the_refusals_and_keys_of_one_process(name: str, tmp_path: Path,
                                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    paint_runs(monkeypatch, Named)
    monkeypatch.setattr("harness.executors.maker.sample", refused_at(4, name))
    fits = both(tmp_path, suite())["fits"]
    assert (name, 4, False) in fits


class Narrow(PaintedBench):
    """Every candidate may widen."""

    def may_widen(self, candidate: Candidate) -> bool:
        return candidate not in self.wider

    def prepare(self, candidate: Candidate, group: int = 0) -> Any:
        prepared = super().prepare(candidate, group)
        prepared.phases[0].hot = candidate.name == "alpha=0.5" and candidate not in self.wider
        return prepared


def test_a_candidate_that_overflows_in_a_worker_is_made_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overflowing(phases: Any, grid: Any, todo: Any, texts: object = None, broken: Any = None,
                    later: Any = None) -> Iterator[Any]:
        for cells, images in paint(phases, grid, todo, texts, broken, later):
            if phases[0].hot:
                broken(cells[0], NOT_FINITE)
            yield cells, images

    paint_runs(monkeypatch, Narrow)
    monkeypatch.setattr("harness.executors.maker.sample", overflowing)
    both(tmp_path, suite())
    assert '"in_bf16": {' in (tmp_path / "many" / "runs" / "tiny" / "run.json").read_text()


def test_without_a_single_worker_the_run_says_so_and_records_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.executors.crew import NoWorkerError

    paint_runs(monkeypatch)

    class Elsewhere:
        def __init__(self, of: Worker) -> None:
            self.make, self.release, self._of = of.make, of.release, of

        def about(self) -> dict[str, Any]:
            facts = dict(self._of.about())
            return facts | {"environment": {**facts["environment"], "cpu": "another one"}}

    work_in_threads(monkeypatch, lambda job, number: Elsewhere(maker_of(job, number)))
    with pytest.raises(NoWorkerError, match="another one"):
        go(tmp_path, suite(), "local:2")
    assert records(tmp_path, Failure, Sample) == []


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads of the workers that began a job, for each job."""
    jobs: list[threading.Thread] = []

    def worker_of(job: Job, number: int) -> Worker:
        jobs.append(threading.current_thread())
        return maker_of(job, number)

    work_in_threads(monkeypatch, worker_of)
    return jobs


@pytest.mark.usefixtures("painted")
def test_what_remains_to_be_made_once_all_images_are_there_starts_no_workers(
        begun: list[threading.Thread], tmp_path: Path) -> None:
    cache = f"folder:{tmp_path / 'cache'}"
    go(tmp_path / "one", suite(), cache=cache)
    done = go(tmp_path / "many", suite(), "local:3", cache=cache)
    assert begun == []
    assert {finished.sampled for finished in done.values()} == {0}
    assert records(tmp_path / "many", NoiseFloor) == records(tmp_path / "one", NoiseFloor) != []
    assert content(tmp_path / "many")["rest"] == content(tmp_path / "one")["rest"]


@pytest.mark.usefixtures("painted")
def test_the_workers_of_a_session_go_from_one_suite_to_the_next(begun: list[threading.Thread], tmp_path: Path) -> None:
    session = Session(session_options(tmp_path, workers="local:2"), Silent())
    suites = [suite(name=name, candidates=MANY[:3], metrics=("exposure",), latency_rounds=1,
                    objective=Objective(maximise="saturation", penalties=())) for name in ("first", "second")]
    try:
        for declared in suites:
            of = session.add(declared, "s.py")
            assert of is not None
            of.select(declared.candidates)
            assert [failure for one in declared.candidates for failure in of.candidate(one)] == []
            of.release()
    finally:
        session.close()
    assert (len(begun), len(set(begun))) == (4, 2)
    for declared in suites:
        journal = Journal(tmp_path / "runs" / declared.name / "journal.jsonl").read()[0]
        assert len([one for one in journal if isinstance(one, Sample)]) == 30
        (worked,) = worker_sessions(json.loads((tmp_path / "runs" / declared.name / "run.json").read_text()))
        assert worked.images == 34  # with those of the noise floor


def test_a_fresh_candidate_that_is_made_once_more_in_another_format_takes_nothing_from_the_cache(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overflowing(phases: Any, grid: Any, todo: Any, texts: object = None, broken: Any = None,
                    later: Any = None) -> Iterator[Any]:
        for cells, images in paint(phases, grid, todo, texts, broken, later):
            if phases[0].hot:
                broken(cells[0], NOT_FINITE)
            yield cells, images

    paint_runs(monkeypatch, Narrow)
    monkeypatch.setattr("harness.executors.maker.sample", overflowing)
    cache = f"folder:{tmp_path / 'cache'}"
    go(tmp_path / "one", suite(), cache=cache)
    for workers in ("", "local:2"):
        done = go(tmp_path / f"again{workers[:1]}", suite(), workers, cache=cache, fresh=True)
        assert (done["alpha=0.5"].sampled, done["alpha=0.5"].reused) == (10, 0)
