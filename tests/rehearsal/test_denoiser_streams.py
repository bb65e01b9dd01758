"""The denoisers of an ensemble on streams of their own: when they run so, in what order streams wait, and that the pictures are
the same."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import DeepCache, Ensemble
from harness.materialise import Workbench
from harness.weights import denoiser_streams
from harness.weights.denoiser_streams import DenoiserStreams, Predict
from tests.fakes import tiny_grid
from tests.rehearsal.gpu import GIB
from tests.rehearsal.making import MIDDLE, candidate, images, images_of
from tests.rehearsal.simulated_cuda import simulated

TWO = Ensemble(models=("zoo:photo", MIDDLE), weights=(0.5, 0.5))
SLOW, FAST = 10.0, 5.0
IN_TURN, AT_ONCE = "in turn", "at once"


def clocked(monkeypatch: pytest.MonkeyPatch, in_turn: float, at_once: float) -> None:
    """Lets a trial measure these milliseconds."""
    def timed(run: Callable[[], Any]) -> tuple[Any, float]:
        result = run()
        return result, at_once if isinstance(result, tuple) else in_turn

    monkeypatch.setattr(denoiser_streams, "timed", timed)


@contextlib.contextmanager
def traced() -> Iterator[list[str]]:
    """A device whose streams note what they wait for; yields the notes."""
    noted: list[str] = []
    with simulated():
        kind = torch.cuda.Stream

        class Noting(kind):  # type: ignore[misc, valid-type]
            made = 0

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                Noting.made += 1
                self.name = str(Noting.made)

            def wait_stream(self, other: Any) -> None:
                noted.append(f"{self.name} waits for {other.name}")

        class Current(Noting):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__()
                Noting.made -= 1
                self.name = "current"

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(torch.cuda, "Stream", Noting)
            patched.setattr(torch.cuda, "current_stream", Current)
            yield noted


def predictions(streams: DenoiserStreams, calls: Sequence[Predict], shape: tuple[int, ...] = (1, 4, 8, 8)) -> list[float]:
    return [float(one.sum().cpu()) for one in streams.predictions(calls, shape, torch.device("cuda"))]


def constant(value: float) -> Predict:
    return lambda: torch.full((2,), value, device="cuda")


def test_each_stream_begins_after_what_was_there_and_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked(monkeypatch, SLOW, FAST)
    with traced() as noted:
        streams = DenoiserStreams()
        calls: list[Predict] = []
        for number in range(3):
            def call(number: int = number) -> torch.Tensor:
                noted.append(f"denoiser {number}")
                return torch.zeros(1, device="cuda")

            calls.append(call)
        predictions(streams, calls)
        noted.clear()
        predictions(streams, calls)
    assert noted == ["1 waits for current", "denoiser 1", "2 waits for current", "denoiser 2", "denoiser 0",
                     "current waits for 1", "current waits for 2"]


def test_streams_are_waited_for_after_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> torch.Tensor:
        raise ValueError("a denoiser failed")

    with traced() as noted:
        streams = DenoiserStreams(choices={(1, 4, 8, 8): ""})
        with pytest.raises(ValueError, match="a denoiser failed"):
            predictions(streams, [constant(1), constant(2), fails])
    assert noted[-2:] == ["current waits for 1", "current waits for 2"]


@pytest.mark.parametrize(("at_once", "said"), [(FAST, "at once"), (2 * SLOW, "2.00 times as long")])
def test_they_run_at_once_only_where_that_takes_less_time(monkeypatch: pytest.MonkeyPatch, at_once: float, said: str) -> None:
    clocked(monkeypatch, SLOW, at_once)
    with simulated():
        streams = DenoiserStreams()
        assert predictions(streams, [constant(1), constant(2)]) == predictions(streams, [constant(1), constant(2)]) == [2, 4]
    assert said in streams.remark


def test_other_bits_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked(monkeypatch, SLOW, FAST)
    with simulated():
        streams, given = DenoiserStreams(), iter((1.0, 2.0, 1.0, 2.0, 1.0, 2.5))
        calls = [lambda: torch.full((2,), next(given), device="cuda")] * 2
        # At once the second is computed before the first.
        assert predictions(streams, calls) == [2, 4]
    assert "other bits" in streams.remark


def test_too_little_free_memory_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked(monkeypatch, SLOW, FAST)
    with simulated(limit=GIB // 4):
        streams = DenoiserStreams()
        assert predictions(streams, [constant(1), constant(2)]) == [2, 4]
    assert "are free on cuda" in streams.remark


def test_memory_that_is_refused_in_the_trial_or_later_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked(monkeypatch, SLOW, FAST)
    on_streams, refusing = DenoiserStreams._on_streams, False

    def refused(self: DenoiserStreams, calls: Sequence[Predict], device: torch.device) -> list[torch.Tensor]:
        if refusing:
            raise torch.OutOfMemoryError("refused")
        return on_streams(self, calls, device)

    monkeypatch.setattr(DenoiserStreams, "_on_streams", refused)
    with simulated():
        for in_trial in (False, True):
            refusing, streams = in_trial, DenoiserStreams()
            assert predictions(streams, [constant(1), constant(2)]) == [2, 4]
            refusing = True
            assert predictions(streams, [constant(1), constant(2)]) == [2, 4]
            assert "memory was refused" in streams.remark


@pytest.mark.parametrize("mode", ["fp32", "int8_weight_only"])
def test_pictures_are_the_same_at_once_and_in_turn(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    made = {}
    with simulated():
        bench = Workbench(device="cuda", root=Path.cwd(), steps=3)
        for way, at_once in ((IN_TURN, 2 * SLOW), (AT_ONCE, FAST)):
            clocked(monkeypatch, SLOW, at_once)
            prepared = bench.prepare(candidate(model=TWO, quantization=mode))
            made[way] = images_of(prepared.phases, tiny_grid(batch_size=2, steps=3))
            assert (prepared.phases[0].streams.remark == "The denoisers ran at once, on streams of their own") == (way == AT_ONCE)
    assert np.array_equal(made[IN_TURN], made[AT_ONCE])


def test_each_shape_has_a_trial_of_its_own_and_so_has_guidance(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked(monkeypatch, SLOW, FAST)
    with simulated():
        prepared = Workbench(device="cuda", root=Path.cwd(), steps=3).prepare(candidate(model=TWO))
        for scales in ((1.0,), (5.0,)):
            images_of(prepared.phases, tiny_grid(batch_size=2, steps=3, guidance_scales=scales))
    assert list(prepared.phases[0].streams.choices.values()) == ["", ""]


@pytest.mark.parametrize(("changes", "low_memory"), [
    ({"model": "zoo:photo"}, ()), ({"model": TWO, "step_cache": DeepCache(interval=2)}, ()),
    ({"model": TWO}, ("denoiser_on_host",))])
def test_a_single_denoiser_a_step_cache_and_lent_layers_try_nothing(changes: dict[str, Any], low_memory: tuple[str, ...]) -> None:
    with simulated():
        bench = Workbench(device="cuda", root=Path.cwd(), steps=3, low_memory=low_memory)
        prepared = bench.prepare(candidate(**changes))
        images_of(prepared.phases, tiny_grid(batch_size=2, steps=3))
    assert prepared.phases[0].streams.remark == ""


def test_a_cpu_tries_nothing() -> None:
    bench = Workbench(device="cpu", root=Path.cwd(), steps=2)
    images(bench, candidate(model=TWO))
    assert bench.prepare(candidate(model=TWO)).phases[0].streams.remark == ""
