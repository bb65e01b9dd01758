"""A prepared candidate is sampled while its model is live, and refused afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness import Candidate
from harness.materialise import MaterialiseError, Workbench
from tests.rehearsal.making import MIDDLE, candidate, sketch
from tests.rehearsal.simulated_cuda import simulated

FORMATS = ("fp32", "fp16", "int8_weight_only")


@pytest.mark.parametrize("later", [candidate(quantization=mode) for mode in FORMATS[1:]] + [candidate(model="zoo:photo")],
                         ids=[*FORMATS[1:], "another model"])
def test_what_was_prepared_before_another_live_model_is_refused_and_can_be_prepared_again(later: Candidate) -> None:
    first = candidate(name="first", adapters=sketch(end=0.5))
    with simulated():
        bench = Workbench(device="cuda", root=Path.cwd(), steps=2)
        early = bench.prepare(first)
        bench.prepare(later)
        for phase in early.phases:
            with pytest.raises(MaterialiseError, match=r"'first' \(fp32\) is no longer live on cuda.*Prepare the"):
                phase.enter()
        with pytest.raises(MaterialiseError, match="'first'"):
            assert early.pipeline
        assert bench.prepare(first).pipeline
        with pytest.raises(MaterialiseError, match="'first'"):  # of the model that was freed, not of the one that came again
            assert early.pipeline


@pytest.mark.parametrize(("device", "mode", "other_mode"), [
    ("cuda", "fp32", "fp32"), ("cuda", "int8_weight_only", "int8_weight_only"), ("cpu", "fp32", "bf16")])
def test_what_shares_a_live_model_or_is_on_a_cpu_can_be_entered_in_any_order(device: str, mode: str, other_mode: str) -> None:
    one = candidate(model=MIDDLE, quantization=mode)
    with simulated():
        bench = Workbench(device=device, root=Path.cwd(), steps=1)
        early = bench.prepare(one)
        weight = early.pipeline.denoiser.conv_in.weight.clone()
        bench.prepare(replace(one, model=replace(MIDDLE, alpha=0.25), quantization=other_mode))
        assert torch.equal(early.pipeline.denoiser.conv_in.weight, weight)
