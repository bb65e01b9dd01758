"""Memory that a device refuses, at each stage: the candidate's result says so, smaller batches are tried, and others go on."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import Candidate, Objective
from harness.records import Failure, Finished, Fit
from harness.run.batch_sizes import BatchSizes
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from tests.rehearsal.gpu import Gpu
from tests.rehearsal.simulated_cuda import simulated
from tests.run.test_any_family import suite_of
from tests.weights.pipelines import folder_of, theirs


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("refused")
    pipe = theirs("sd1")
    folder_of(pipe, root / "a")
    with torch.no_grad():
        for value in pipe.unet.parameters():
            value.mul_(1.2)
    folder_of(pipe, root / "b")
    return root


@pytest.fixture
def gpu() -> Iterator[Gpu]:
    with simulated() as gpu:
        yield gpu


def found(target: str) -> tuple[Any, str]:
    """The owner of a function, and its name there: "module:Class.function"."""
    module, _, name = target.partition(":")
    owner: Any = importlib.import_module(module)
    *inside, function = name.split(".")
    for part in inside:
        owner = getattr(owner, part)
    return owner, function


def squeeze(patch: pytest.MonkeyPatch, gpu: Gpu, owner: Any, name: str, *, times: int = 1) -> list[int]:
    """In the first calls of a function the device has no memory left. The list grows with each of these."""
    original, calls = getattr(owner, name), list[int]()

    def tight(*args: Any, **kwargs: Any) -> Any:
        if len(calls) >= times:
            return original(*args, **kwargs)
        calls.append(gpu.live)
        gpu.without_memory.add(threading.get_ident())  # not the whole device: others compute meanwhile
        try:
            return original(*args, **kwargs)
        finally:
            gpu.without_memory.discard(threading.get_ident())

    patch.setattr(owner, name, tight)
    return calls


def ran(root: Path, runs: Path, **changes: object) -> tuple[list[object], list[Fit]]:
    """What became of both candidates, and the refusals on record."""
    suite = replace(suite_of("sd1"), **changes)  # type: ignore[arg-type]
    run = SuiteRun(suite, "suite.py", Options(root=root, runs=runs, device="cuda"), Silent())
    try:
        assert run.preflight() == []
        done = [run.candidate(candidate) for candidate in run.suite.candidates]
        return done, [record for record in run.ledger.journal.read()[0] if isinstance(record, Fit)]
    finally:
        run.close()


def failure(done: object) -> Failure:
    assert isinstance(done, list), done
    assert isinstance(done[0], Failure)
    return done[0]


def test_a_model_that_does_not_fit_is_read_once_and_each_candidate_says_so(root: Path, tmp_path: Path,
                                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    with simulated() as gpu:
        loads = squeeze(monkeypatch, gpu, *found("harness.materialise.workbench:build_pipeline"), times=9)
        done, fits = ran(root, tmp_path)
        assert len(loads) == 1
        assert gpu.live < 2 ** 15
    assert [failure(one).stage for one in done] == ["materialise"] * 2
    assert all("out of memory" in failure(one).message for one in done)
    assert "not tried again" in failure(done[1]).message
    assert [(fit.candidate, fit.batch_size, fit.fits) for fit in fits] == [("alpha=0", 1, False), ("alpha=0.5", 1, False)]


@pytest.mark.parametrize(("target", "times"), [
    ("harness.materialise.workbench:write_live", 9), ("harness.executors.maker:encode", 1)])
def test_memory_refused_while_a_candidate_is_made_ends_that_candidate_alone(
        target: str, times: int, gpu: Gpu, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert squeeze(monkeypatch, gpu, *found(target), times=times) == []
    done, fits = ran(root, tmp_path)
    failed, = (one for one in done if not isinstance(one, Finished))
    assert (failure(failed).stage, failure(failed).error) == ("materialise", "OutOfMemoryError")
    assert [(fit.candidate, fit.batch_size, fit.fits) for fit in fits] == [(failure(failed).candidate, 1, False)]
    assert fits[0].asked_bytes


@pytest.mark.parametrize("target", ["harness.sampling.denoise:Denoising.advance", "harness.sampling.stream:decode"])
def test_memory_refused_for_a_batch_halves_it_and_all_images_are_made(
        target: str, gpu: Gpu, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = squeeze(monkeypatch, gpu, *found(target))
    done, fits = ran(root, tmp_path)
    assert len(refused) == 1
    assert all(isinstance(one, Finished) for one in done), done
    assert [(fit.candidate, fit.batch_size, fit.fits) for fit in fits] == [("alpha=0", 3, False), ("alpha=0.5", 3, False)]
    assert len(list(tmp_path.rglob("*.png"))) == 8


def test_main_memory_that_was_refused_is_tried_again_for_the_next_candidate(gpu: Gpu, root: Path, tmp_path: Path,
                                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.materialise import workbench

    original, calls = workbench.build_pipeline, list[int]()

    def short(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise MemoryError
        return original(*args, **kwargs)

    monkeypatch.setattr(workbench, "build_pipeline", short)
    done, fits = ran(root, tmp_path)
    assert failure(done[0]).error == "MemoryError"
    assert isinstance(done[1], Finished)
    assert [fit.candidate for fit in fits] == ["alpha=0"]


def test_a_fitted_batch_that_was_refused_is_halved_in_later_sessions_too(gpu: Gpu, root: Path, tmp_path: Path,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    declared = suite_of("sd1", batch_size="fit")
    first, second = declared.candidates
    monkeypatch.setattr("harness.run.fitted_batch.fitting_batch", lambda *_: 4)

    def session(candidate: Candidate, **options: Any) -> tuple[list[Fit], dict[str, Any]]:
        run = SuiteRun(declared, "", Options(root=root, runs=tmp_path, device="cuda", **options), Silent())
        try:
            assert isinstance(run.candidate(candidate), Finished)
            return run.ledger.fits(candidate.name), dict(run.head["fitted_batch"])
        finally:
            run.close()

    with monkeypatch.context() as tight:
        refused = squeeze(tight, gpu, *found("harness.sampling.denoise:Denoising.advance"))
        fits, chosen = session(first)
    assert (len(refused), [fit.batch_size for fit in fits], chosen["batch_size"]) == (1, [4], 4)
    fits, again = session(second)
    assert [(fit.batch_size, "not tried with 4 images" in fit.why) for fit in fits] == [(4, True)]
    assert again == chosen
    assert {entry["batch_size"] for entry in chosen["refused"]} == {4}
    fits, anew = session(second, fresh=True)
    assert (fits, anew.get("refused")) == ([], None)


@pytest.mark.parametrize("entries", [3, [3], [{}], [{"batch_size": "x"}], [{"batch_size": 999, "width": 8, "height": 8}],
                                     [{"batch_size": 2, "width": None, "height": 8, "guided": 1, "candidate": 1, "why": 1}]])
def test_what_run_json_says_of_refused_batches_is_read_with_suspicion(entries: object) -> None:
    sizes = BatchSizes(largest=4)
    sizes.remember(entries)
    assert sizes.refusals == []


def test_memory_refused_while_images_are_scored_is_tried_again_image_by_image(gpu: Gpu, root: Path, tmp_path: Path,
                                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.metrics import clip

    refused = squeeze(monkeypatch, gpu, clip.ClipScorer, "_image_embeddings", times=3)
    done, fits = ran(root, tmp_path, metrics=("clip_score",), objective=Objective())
    assert len(refused) == 3
    assert all(isinstance(one, Finished) for one in done), done
    assert fits == []
