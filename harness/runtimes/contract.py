"""What a row of RUNTIMES says of a runtime, and how a row of a user's own is adopted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from harness.declare.mixed import DENOISERS
from harness.declare.models import DENOISER
from harness.declare.rows import error_text

if TYPE_CHECKING:
    import torch

    from harness.runtimes.graph import Graph


EVERY_COMPONENT: Final = frozenset({DENOISER, "vae", "text_encoder"})


class Executor(Protocol):
    """Executes a graph with the weights that it was last given. Several threads may call it at once, but none during `refresh`.
    """

    holds: str
    """The identity of the weights that it has; empty if it has none, or not all of one candidate's."""

    def refresh(self, weights: Mapping[str, torch.Tensor], identity: str) -> None:
        """Takes over the weights, by their names in the module's state_dict. Raises WeightsError unless they are exactly the
        graph's."""
        ...

    def __call__(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The output in float32 for the graph's inputs, which are contiguous, on its device and of its dtypes."""
        ...


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """A row of RUNTIMES, with either `apply` or `open`. A built-in runtime with `apply` uses the very parameters of the module
    that it is given, so that weights merged into them later count. One with `open` executes an exported graph, which holds no
    weights: it is given each candidate's, and compared with eager each time."""

    description: str
    """What it is, in one sentence."""
    apply: Callable[[torch.nn.Module], Any] | None = None
    """Gives a module that computes what the given one does."""
    open: Callable[[Graph, str], Executor] | None = None
    """Opens a graph without weights on a device."""
    quantizations: frozenset[str] | None = None
    """The number formats that it executes, as `Candidate.quantization` names them; None for all."""
    tolerance: float = 0.0
    """With `open`: by how much of its largest value one forward in float32 may differ from eager."""
    components: frozenset[str] = frozenset({DENOISER})
    """What of a model it executes: "denoiser", "vae" and "text_encoder", which stands for all of them."""
    copies: bool = True
    """With `open`: whether it holds a copy of the weights beside the live ones."""
    packages: tuple[str, ...] = ()
    """Installed packages whose versions change the last bits of its images."""
    why_not: Callable[[str], str] = lambda _: ""
    """What a device ("cpu", "cuda:0") lacks; empty if nothing."""
    version: int = 1
    """Increases when the same weights give other images."""
    by_timing: bool = False
    """Whether it chooses by timing what it executes, so that images of another process can have other last bits."""
    private: bool = False
    """Gets a copy of each candidate's module, which it may change; always so for a runtime of your own with `apply`."""

    @property
    def exported(self) -> bool:
        """Whether it executes an exported graph."""
        return self.open is not None

    def executes(self, component: str) -> bool:
        """Whether it executes a component, by its name in `Candidate.runtime`."""
        kind = DENOISER if component in DENOISERS else "text_encoder" if component.startswith("text_encoder") else component
        return kind in self.components


class RuntimeRowError(ValueError):
    """A runtime of a user's own that failed; the text says which one and how."""


def adopt_runtime(name: str, row: Runtime) -> Runtime:
    """A row of one's own as the harness uses it: on copies, and costing only itself. TypeError or ValueError for a row that
    cannot be used."""
    if (row.apply is None) == (row.open is None):
        raise ValueError("expected either apply or open, and not both")
    if not callable(row.apply or row.open) or not callable(row.why_not):
        raise TypeError("apply, open or why_not is not a function")
    if not row.components or row.components - EVERY_COMPONENT:
        raise ValueError(f"components are {sorted(row.components)}; expected some of {sorted(EVERY_COMPONENT)}")
    if row.apply is not None and row.components != {DENOISER}:
        raise ValueError("a runtime with apply executes the denoiser alone; remove components")
    if row.version < 1:
        raise ValueError(f"version is {row.version!r}; expected a whole number of at least 1")

    def apply(module: torch.nn.Module) -> Any:
        made = _of_a_user(name, lambda: row.apply(module) if row.apply else None)
        if not callable(made):
            raise RuntimeRowError(f"runtime {name!r} gave a {type(made).__name__}; expected a module")
        return made

    def open_(graph: Graph, device: str) -> Executor:
        made: Any = _of_a_user(name, lambda: row.open(graph, device) if row.open else None)
        if not callable(made) or not callable(getattr(made, "refresh", None)):
            raise RuntimeRowError(f"runtime {name!r} gave a {type(made).__name__}; expected an Executor")
        executor: Executor = made
        return executor

    def why_not(device: str) -> str:
        try:
            reason = row.why_not(device)
        except (Exception, SystemExit) as error:
            return f"its why_not raised {error_text(error)}"
        return reason if isinstance(reason, str) else f"its why_not gave a {type(reason).__name__}; expected text"

    if row.open is not None:
        return replace(row, open=open_, why_not=why_not)
    return replace(row, apply=apply, why_not=why_not, private=True)


def _of_a_user(name: str, give: Callable[[], Any]) -> Any:
    try:
        return give()
    except (Exception, SystemExit) as error:
        raise RuntimeRowError(f"runtime {name!r} raised {error_text(error)}") from error
