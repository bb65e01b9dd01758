"""Compiled and quantized: compiled once for all candidates, which still compute with their own weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import Candidate
from harness.materialise import Workbench
from harness.materialise.compiled_copies import CompiledCopies
from harness.quantize import QUANTIZATION_MODES
from tests.rehearsal.making import candidate, images, sketch
from tests.rehearsal.simulated_cuda import simulated


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


def test_a_quantized_denoiser_is_compiled_once_for_all_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    monkeypatch.setattr("harness.runtimes._lacks_compiler", lambda _: "")
    monkeypatch.setattr("harness.runtimes.find_spec", lambda _: True)
    monkeypatch.setattr("harness.runtimes._lacks_for_triton", lambda: "")

    def compile_(module: torch.nn.Module, **_: object) -> Compiled:
        compiled.append(module)
        return Compiled(module)

    monkeypatch.setattr(torch, "compile", compile_)
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


@pytest.mark.parametrize("mode", ["int8_weight_only", "int8_dynamic", "int4_weight_only"])
def test_what_torch_compiled_takes_the_tensors_of_another_copy_without_compiling_again(mode: str) -> None:
    from torch._dynamo.utils import counters

    copies, graphs, x = CompiledCopies(), [], torch.randn(32, 16)
    for seed in (0, 1):
        torch.manual_seed(seed)
        module = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.SiLU(), torch.nn.Linear(16, 16)).requires_grad_(False)
        QUANTIZATION_MODES[mode].apply(module)
        compiled, _ = copies.compiled(module, mode, lambda shell: torch.compile(shell, backend="aot_eager", dynamic=False))
        before = counters["stats"]["unique_graphs"]
        with torch.inference_mode():
            assert torch.allclose(compiled(x), module(x), atol=1e-5)
        graphs.append(counters["stats"]["unique_graphs"] - before)
    assert graphs == [1, 0]
