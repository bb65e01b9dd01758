"""What a candidate asks of an exported runtime that its graph cannot do is refused in the check, by name."""

from __future__ import annotations

from typing import Any

import pytest

from harness import Candidate, Control, Reference, Stage
from harness.check.runtime import runtime_problems
from harness.runtimes import RUNTIMES

EXPORTED = tuple(name for name, row in RUNTIMES.items() if row.exported)
CONTROL, REFERENCE = Control(path="edges.safetensors", picture="pose"), Reference(path="ip.safetensors", picture="face")


def problems(**changes: Any) -> list[str]:
    return list(runtime_problems(Candidate(**{"name": "night", "model": "a.safetensors", **changes})))


@pytest.mark.parametrize("runtime", EXPORTED)
@pytest.mark.parametrize(("changes", "fact"), [
    ({"controls": (CONTROL,)}, "'edges.safetensors'"), ({"references": (REFERENCE,)}, "'ip.safetensors'"),
    ({"stages": (Stage(strength=0.5, controls=(CONTROL,)),)}, "'edges.safetensors'"),
    ({"quantization": "int8_weight_only"}, "'int8_weight_only'"), ({"quantization": "int4_weight_only"}, "'int4_weight_only'")])
def test_what_a_graph_cannot_do_is_refused(runtime: str, changes: dict[str, Any], fact: str) -> None:
    [problem] = problems(runtime=runtime, **changes)
    assert fact in problem and repr(runtime) in problem
    assert not problems(runtime="eager", **changes)


@pytest.mark.parametrize("runtime", EXPORTED)
def test_a_plain_candidate_is_not_refused(runtime: str) -> None:
    assert not problems(runtime=runtime)
    assert not problems(runtime=runtime, precision="fp32")


def test_onnx_runtime_computes_no_bf16() -> None:
    [problem] = problems(runtime="onnxruntime", precision="bf16")
    assert "'bf16'" in problem and "fp16 and fp32" in problem


@pytest.mark.parametrize(("changes", "fact"), [
    ({"runtime": {"vae": "compiled"}}, "'compiled' does not execute vae"),
    ({"runtime": {"text_encoder_2": "tensorrt"}}, "'tensorrt' does not execute text_encoder_2"),
    ({"runtime": {"unet": "openvino"}, "precision": "bf16"}, "'bf16'"),
    ({"runtime": {"unet": "onnxruntime"}, "controls": (CONTROL,)}, "'edges.safetensors'"),
    ({"runtime": {"text_encoder": "openvino"}, "quantization": {"text_encoder": "nf4"}}, "'nf4'")])
def test_a_component_is_refused_by_name_in_a_runtime_that_cannot_execute_it(changes: dict[str, Any], fact: str) -> None:
    [problem] = problems(**changes)
    assert fact in problem


@pytest.mark.parametrize("changes", [
    {"runtime": {"vae": "openvino"}, "controls": (CONTROL,)}, {"runtime": {"vae": "onnxruntime"}, "quantization": "nf4"},
    {"runtime": {"unet": "openvino"}, "quantization": {"text_encoder": "nf4"}},
    {"runtime": {"unet": "compiled", "vae": "eager"}}])
def test_what_a_component_beside_is_executed_by_does_not_concern_the_others(changes: dict[str, Any]) -> None:
    assert not problems(**changes)
