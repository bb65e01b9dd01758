"""What a row of RUNTIMES says of a runtime, and how a row of a user's own is adopted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.declare.rows import error_text

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
