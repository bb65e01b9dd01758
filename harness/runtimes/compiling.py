"""The runtime of torch.compile: kernels for each shape of batch, and what compiling needs of a machine."""

from __future__ import annotations

import os
import shutil
import sysconfig
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def compiled(module: torch.nn.Module) -> Any:
    import torch

    # Each shape of batch has kernels of its own; parameters are inputs of them, and may change in place. Beyond the limit torch
    # goes on eagerly without a word, and by default all compiled modules of one class share eight.
    own = {"recompile_limit": 64, "isolate_recompiles": True}
    known = signature(torch.compile).parameters  # newer than the oldest torch that is allowed, and than torch's own overloads
    compiling: Any = torch.compile
    return compiling(module, dynamic=False, **{name: value for name, value in own.items() if name in known})


def lacks_compiler(device: str) -> str:
    if device.startswith("cuda"):
        return _lacks_for_triton()
    found = any(shutil.which(name) for name in ("c++", "g++", "clang++"))
    return "" if found else "torch.compile needs a C++ compiler on the CPU, and none is installed"


def _lacks_for_triton() -> str:
    """What triton needs besides itself: it compiles the launcher of each kernel as a module of Python."""
    if not find_spec("triton"):
        return "torch.compile needs triton on CUDA, which is not installed"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "torch.compile needs a C compiler on CUDA (gcc, clang, or the one that CC names), and none is installed"
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return "" if header.is_file() else f"torch.compile needs Python's headers on CUDA, and {header} does not exist"
