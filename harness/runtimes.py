"""RUNTIMES: by what a candidate's denoiser is executed. Declared by name in a Candidate; materialise applies the row, last of
all."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.declare.rows import Rows, error_text

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """A row of RUNTIMES. A built-in runtime uses the very parameters of the module that it is given, so that weights merged into
    them later count."""

    description: str
    """What it is, in one sentence."""
    apply: Callable[[torch.nn.Module], Any]
    """Gives a module that computes what the given one does."""
    why_not: Callable[[str], str] = lambda _: ""
    """What a device ("cpu", "cuda:0") lacks; empty if nothing."""
    version: int = 1
    """Increases when the same weights give other images."""
    private: bool = False
    """Gets a copy of each candidate's module, which it may change; always so for a runtime of your own."""


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


class RuntimeRowError(ValueError):
    """A runtime of a user's own that failed; the text says which one and how."""


def adopt_runtime(name: str, row: Runtime) -> Runtime:
    """A row of one's own as the harness uses it: on copies, and costing only itself. TypeError or ValueError for a row that
    cannot be used."""
    if not callable(row.apply) or not callable(row.why_not):
        raise TypeError("apply or why_not is not a function")
    if row.version < 1:
        raise ValueError(f"version is {row.version!r}; expected a whole number of at least 1")

    def apply(module: torch.nn.Module) -> Any:
        try:
            made = row.apply(module)
        except (Exception, SystemExit) as error:
            raise RuntimeRowError(f"runtime {name!r} raised {error_text(error)}") from error
        if not callable(made):
            raise RuntimeRowError(f"runtime {name!r} gave a {type(made).__name__}; expected a module")
        return made

    def why_not(device: str) -> str:
        try:
            reason = row.why_not(device)
        except (Exception, SystemExit) as error:
            return f"its why_not raised {error_text(error)}"
        return reason if isinstance(reason, str) else f"its why_not gave a {type(reason).__name__}; expected text"

    return replace(row, apply=apply, why_not=why_not, private=True)


RUNTIMES: Final[Rows[Runtime]] = Rows({
    "eager": Runtime(description="PyTorch as it is, one kernel after another", apply=lambda module: module),
    "compiled": Runtime(description="torch.compile: kernels fused and compiled for each shape of batch", apply=_compiled,
                        why_not=_lacks_compiler),
}, word="runtime", kind=Runtime, group="sweetspot.runtimes", adopt=adopt_runtime)
