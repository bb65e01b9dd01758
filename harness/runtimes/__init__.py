"""RUNTIMES: by what a candidate's denoiser is executed. Declared by name in a Candidate; materialise applies the row, last of
all."""

from __future__ import annotations

from typing import Final

from harness.declare.component_runtimes import PACKAGES, Runtimes, runtimes_in
from harness.declare.rows import Rows
from harness.runtimes import onnx_runtime, open_vino, tensor_rt
from harness.runtimes.compiling import compiled, lacks_compiler
from harness.runtimes.contract import EVERY_COMPONENT, Executor, Runtime, RuntimeRowError, adopt_runtime
from harness.runtimes.graph import Graph, WeightsError

__all__ = ["RUNTIMES", "Executor", "Graph", "Runtime", "RuntimeRowError", "WeightsError", "adopt_runtime", "identity_of",
           "packages_of"]

FP32_TOLERANCE: Final = 1e-4

RUNTIMES: Final[Rows[Runtime]] = Rows({
    "eager": Runtime(description="PyTorch as it is, one kernel after another", apply=lambda module: module),
    "compiled": Runtime(description="torch.compile: kernels fused and compiled for each shape of batch", apply=compiled,
                        why_not=lacks_compiler),
    "onnxruntime": Runtime(
        description="ONNX Runtime on an exported graph, with each candidate's weights as constants",
        open=onnx_runtime.OnnxRuntime, quantizations=frozenset({"fp32", "fp16"}), tolerance=FP32_TOLERANCE,
        components=EVERY_COMPONENT, packages=PACKAGES["onnxruntime"], why_not=onnx_runtime.why_not),
    "onnxruntime_live": Runtime(
        description="ONNX Runtime on an exported graph, which reads the live weights where they lie",
        open=onnx_runtime.LiveOnnxRuntime, copies=False, quantizations=frozenset({"fp32", "fp16"}), tolerance=FP32_TOLERANCE,
        components=EVERY_COMPONENT, packages=PACKAGES["onnxruntime"], why_not=onnx_runtime.why_not),
    "openvino": Runtime(
        description="OpenVINO on an exported graph, with each candidate's weights as constants; on the CPU alone",
        open=open_vino.OpenVino, quantizations=frozenset({"fp32"}), tolerance=FP32_TOLERANCE,
        components=EVERY_COMPONENT, packages=PACKAGES["openvino"], why_not=open_vino.why_not),
    "tensorrt": Runtime(
        description="TensorRT on an exported graph, with each candidate's weights put into one plan; on NVIDIA GPUs alone",
        open=tensor_rt.TensorRt, quantizations=frozenset({"fp32", "fp16"}), tolerance=FP32_TOLERANCE,
        packages=PACKAGES["tensorrt"], by_timing=True, why_not=tensor_rt.why_not),
}, word="runtime", kind=Runtime, group="sweetspot.runtimes", adopt=adopt_runtime)


def packages_of(runtime: Runtimes) -> tuple[str, ...]:
    """The packages whose versions decide what the runtimes of a candidate make and how fast; none of a runtime that is not known
    here."""
    rows = [row for name in runtimes_in(runtime) if (row := RUNTIMES.find(name)) is not None]
    return tuple(dict.fromkeys(package for row in rows for package in row.packages))


def identity_of(runtime: Runtimes) -> object:
    """What the results of a candidate's runtimes are known by beside its declaration."""
    if isinstance(runtime, str):
        return RUNTIMES.identity(runtime)
    return [[component, RUNTIMES.identity(name)] for component, name in sorted(runtime.items())]
