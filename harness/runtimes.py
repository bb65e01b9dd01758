"""RUNTIMES: by what a candidate's denoiser is executed. Declared by name in a Candidate; materialise applies the row, last of
all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from inspect import signature
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """`apply` gives a module that computes what the given one does, with its very parameters, so that weights merged into them
    later count. `why_not` says what a device ("cpu", "cuda:0") lacks, empty when nothing. `version` rises when the same
    weights give other images."""

    said: str
    apply: Callable[[torch.nn.Module], Any]
    why_not: Callable[[str], str] = lambda _: ""
    version: int = 1


def _compiled(module: torch.nn.Module) -> Any:
    import torch

    # Each shape of batch has kernels of its own; parameters are inputs of them, and may change in place. Beyond the limit torch
    # goes on eagerly without a word, and by default all compiled modules of one class share eight.
    own = {"recompile_limit": 64, "isolate_recompiles": True}
    known = signature(torch.compile).parameters  # newer than the oldest torch that is allowed, and than torch's own overloads
    compiling: Any = torch.compile
    return compiling(module, dynamic=False, **{name: value for name, value in own.items() if name in known})


def _lacks_compiler(device: str) -> str:
    if device.startswith("cuda"):
        return "" if find_spec("triton") else "torch.compile needs triton on CUDA, which is not installed"
    found = any(shutil.which(name) for name in ("c++", "g++", "clang++"))
    return "" if found else "torch.compile needs a C++ compiler on the CPU, and none is installed"


RUNTIMES: Final[dict[str, Runtime]] = {
    "eager": Runtime(said="PyTorch as it is, one kernel after another", apply=lambda module: module),
    "compiled": Runtime(said="torch.compile: kernels fused and compiled for each shape of batch", apply=_compiled,
                        why_not=_lacks_compiler),
}
