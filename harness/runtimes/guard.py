"""One forward of an executor beside eager, on fixed inputs: it shows weights that did not arrive, NaN, and another precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

    from harness.runtimes.entry import Entry, Size
    from harness.runtimes.graph import Graph

HALF_TOLERANCE: Final = 2e-2
"""For graphs that compute in 16 bits."""


class GuardError(RuntimeError):
    """An executor that does not compute what eager does; the text gives the figure."""


def guard_inputs(graph: Graph, entry: Entry, config: Any, size: Size, device: torch.device) -> dict[str, torch.Tensor]:
    """The fixed inputs of a component, each in the dtype of the graph."""
    import torch

    dtypes = {one.name: getattr(torch, one.dtype or graph.dtype) for one in entry.inputs(config, size)}
    return {name: tensor.to(device, dtypes[name]) for name, tensor in entry.guard(config, size).items()}


def distance(executed: torch.Tensor, eager: torch.Tensor) -> float:
    """The largest difference over eager's largest value; NaN if either holds one."""
    eager = eager.double()
    return float((executed.double() - eager).abs().max() / eager.abs().max())


def refuse_distant(error: float, tolerance: float, dtype: str) -> None:
    """Raises GuardError for an error above the tolerance, or NaN."""
    allowed = tolerance if dtype == "float32" else max(tolerance, HALF_TOLERANCE)
    if not error <= allowed:
        raise GuardError(f"one forward differs from eager by {error:.2g} of the largest value; at most {allowed:g} is allowed")
