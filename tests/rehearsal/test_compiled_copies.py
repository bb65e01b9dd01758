"""Compiled and quantized: compiled once for all candidates, which still compute with their own weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import Candidate
from harness.materialise import Workbench
from harness.materialise.compiled_copies import CompiledCopies
from harness.quantize import MADE_ON_HOST, QUANTIZATION_MODES
from harness.sampling import encode
from tests.rehearsal.making import MIDDLE, candidate, images, sketch
from tests.rehearsal.simulated_cuda import simulated
from tests.run.test_any_family import grid_of
from tests.weights.pipelines import folder_of, theirs


class Compiled(torch.nn.Module):
    """What torch.compile gives, but uncompiled."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self._orig_mod = module

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name) if name == "_orig_mod" else getattr(self._orig_mod, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._orig_mod(*args, **kwargs)


def of(model: str, **changes: Any) -> Candidate:
    return candidate(model=model, quantization="int8_weight_only", **changes)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was compiled, without a compiler."""
    modules: list[object] = []

    def compile_(module: torch.nn.Module, **_: object) -> Compiled:
        modules.append(module)
        return Compiled(module)

    monkeypatch.setattr("harness.runtimes.compiling.lacks_compiler", lambda _: "")
    monkeypatch.setattr("harness.runtimes.compiling.find_spec", lambda _: True)
    monkeypatch.setattr("harness.runtimes.compiling._lacks_for_triton", lambda: "")
    monkeypatch.setattr(torch, "compile", compile_)
    return modules


def test_a_quantized_denoiser_is_compiled_once_for_all_candidates(tmp_path: Path, compiled: list[object]) -> None:
    with simulated() as gpu:
        bench = Workbench(device="cuda", root=tmp_path, steps=2)
        expected = {model: images(bench, of(model)) for model in ("zoo:photo", "zoo:anime")}
        for model, made in expected.items():
            assert np.array_equal(images(bench, of(model, runtime="compiled")), made), model
        assert len(compiled) == 1
        images(bench, of("zoo:photo", runtime="compiled", adapters=sketch()))  # layers with more than tensors
        assert len(compiled) == 2
        images(bench, candidate(model="zoo:base"))
        quantized = gpu.live
        images(bench, candidate(model="zoo:base"))
        assert gpu.live == quantized  # nothing of a copy is kept on the device
        assert np.array_equal(images(bench, of("zoo:photo", runtime="compiled")), expected["zoo:photo"])
        assert len(compiled) == 2


def test_a_live_denoiser_is_compiled_once_for_each_number_format_whatever_comes_between(
        tmp_path: Path, compiled: list[object]) -> None:
    chosen = [candidate(model="zoo:photo", quantization="fp32"), candidate(model="zoo:photo", quantization="fp16"),
              candidate(model="zoo:anime", quantization="fp32"), of("zoo:photo"),
              candidate(model=MIDDLE, quantization="fp16", adapters=sketch())]
    with simulated() as gpu:
        bench, live = Workbench(device="cuda", root=tmp_path, steps=1), []
        expected = [images(bench, one) for one in chosen]
        for _ in range(2):
            for one, made in zip(chosen, expected, strict=True):
                assert np.array_equal(images(bench, replace(one, runtime="compiled")), made), one
            live.append(gpu.live)
    assert len(compiled) == 3  # fp32, fp16 and the quantized copies
    assert live[0] == live[1]


def test_a_compiled_transformer_makes_room_for_the_texts_encoders_as_it_is(tmp_path: Path, compiled: list[object]) -> None:
    folder_of(theirs("sd3"), tmp_path / "sd3")
    for mode in ("fp16", "int8_weight_only"):
        with simulated() as gpu:
            bench, peaks = Workbench(device="cuda", root=tmp_path, steps=1), []
            for runtime in ("eager", "compiled"):
                one = candidate(model="sd3", quantization=mode, runtime=runtime)
                pipeline, grid = bench.prepare(one).pipeline, grid_of("sd3")
                encode(pipeline, grid.prompts)
                gpu.reset_peaks()
                encode(pipeline, grid.prompts)
                peaks.append(gpu.peak)
        assert peaks[1] <= peaks[0], mode


def test_layers_alike_of_another_config_are_compiled_for_themselves(tmp_path: Path) -> None:
    copies, compiled = CompiledCopies(), []
    for heads in (1, 2):
        module = torch.nn.Linear(4, 4)
        module.config = {"heads": heads, "_name_or_path": str(heads)}
        compiled.append(copies.compiled(module, "x", Compiled)[0])
    assert compiled[0] is not compiled[1]


def test_an_earlier_candidate_computes_with_its_own_weights_once_it_is_entered_again(tmp_path: Path) -> None:
    copies, made = CompiledCopies(), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        module = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.SiLU(), torch.nn.Linear(8, 8)).requires_grad_(False)
        QUANTIZATION_MODES["int4_weight_only"].apply(module)
        made.append((module, *copies.compiled(module, "x", Compiled)))
    x = torch.randn(2, 8)
    assert made[0][1] is made[1][1]
    for module, compiled, refresh in (*made, made[0]):
        refresh()
        assert torch.equal(compiled(x), module(x))


@pytest.mark.parametrize("computing", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("mode", [mode for mode in MADE_ON_HOST if not QUANTIZATION_MODES[mode].why_not("cpu")])
def test_what_torch_compiled_takes_the_tensors_of_another_copy_without_compiling_again(mode: str, computing: str) -> None:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()  # type: ignore[no-untyped-call]
    copies, graphs, x = CompiledCopies(), [], torch.randn(32, 16)
    for seed in (0, 1):
        torch.manual_seed(seed)
        module = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.SiLU(), torch.nn.Linear(16, 16)).requires_grad_(False)
        MADE_ON_HOST[mode](module, computing)
        compiled, _ = copies.compiled(module, mode, lambda shell: torch.compile(shell, backend="aot_eager", dynamic=False))
        before = counters["stats"]["unique_graphs"]
        with torch.inference_mode():
            assert torch.allclose(compiled(x), module(x), atol=1e-5 if computing == "float32" else 0.02)
        graphs.append(counters["stats"]["unique_graphs"] - before)
    assert graphs[0] >= 1
    assert graphs[1] == 0
