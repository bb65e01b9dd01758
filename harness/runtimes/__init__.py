"""RUNTIMES: by what a candidate's denoiser is executed. Declared by name in a Candidate; materialise applies the row, last of
all."""

from __future__ import annotations

from typing import Final

from harness.declare.rows import Rows
from harness.runtimes import onnx_runtime, open_vino, tensor_rt
from harness.runtimes.compiling import compiled, lacks_compiler
from harness.runtimes.contract import Executor, Runtime, RuntimeRowError, adopt_runtime
from harness.runtimes.graph import Graph, WeightsError

__all__ = ["RUNTIMES", "Executor", "Graph", "Runtime", "RuntimeRowError", "WeightsError", "adopt_runtime", "packages_of"]

FP32_TOLERANCE: Final = 1e-4
_ONNX: Final = ("onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu")  # either of the last two

RUNTIMES: Final[Rows[Runtime]] = Rows({
    "eager": Runtime(description="PyTorch as it is, one kernel after another", apply=lambda module: module),
    "compiled": Runtime(description="torch.compile: kernels fused and compiled for each shape of batch", apply=compiled,
                        why_not=lacks_compiler),
    "onnxruntime": Runtime(
        description="ONNX Runtime on an exported graph, with each candidate's weights as constants",
        open=onnx_runtime.OnnxRuntime, quantizations=frozenset({"fp32", "fp16"}), tolerance=FP32_TOLERANCE, packages=_ONNX,
        why_not=onnx_runtime.why_not),
    "onnxruntime_live": Runtime(
        description="ONNX Runtime on an exported graph, which reads the live weights where they lie",
        open=onnx_runtime.LiveOnnxRuntime, copies=False, quantizations=frozenset({"fp32", "fp16"}), tolerance=FP32_TOLERANCE,
        packages=_ONNX, why_not=onnx_runtime.why_not),
    "openvino": Runtime(
        description="OpenVINO on an exported graph, with each candidate's weights as constants; on the CPU alone",
        open=open_vino.OpenVino, quantizations=frozenset({"fp32"}), tolerance=FP32_TOLERANCE,
        packages=("onnx", "onnxscript", "openvino"), why_not=open_vino.why_not),
    "tensorrt": Runtime(
        description="TensorRT on an exported graph, with each candidate's weights put into one plan; on NVIDIA GPUs alone",
        open=tensor_rt.TensorRt, quantizations=frozenset({"fp32", "fp16"}), tolerance=FP32_TOLERANCE,
        packages=("onnx", "onnxscript", "tensorrt"), why_not=tensor_rt.why_not),
}, word="runtime", kind=Runtime, group="sweetspot.runtimes", adopt=adopt_runtime)


def packages_of(runtime: str) -> tuple[str, ...]:
    """The packages whose versions decide what a runtime makes and how fast; empty for a runtime that is not known here."""
    row = RUNTIMES.find(runtime)
    return () if row is None else row.packages
