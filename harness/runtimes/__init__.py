"""RUNTIMES: by what a candidate's denoiser is executed. Declared by name in a Candidate; materialise applies the row, last of
all."""

from __future__ import annotations

from typing import Final

from harness.declare.rows import Rows
from harness.runtimes.compiling import compiled, lacks_compiler
from harness.runtimes.contract import Runtime, RuntimeRowError, adopt_runtime

__all__ = ["RUNTIMES", "Runtime", "RuntimeRowError", "adopt_runtime"]

RUNTIMES: Final[Rows[Runtime]] = Rows({
    "eager": Runtime(description="PyTorch as it is, one kernel after another", apply=lambda module: module),
    "compiled": Runtime(description="torch.compile: kernels fused and compiled for each shape of batch", apply=compiled,
                        why_not=lacks_compiler),
}, word="runtime", kind=Runtime, group="sweetspot.runtimes", adopt=adopt_runtime)
