"""One forward of an executor beside eager, on fixed inputs: it shows weights that did not arrive, NaN, and another precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

    from harness.runtimes.graph import Graph

HALF_TOLERANCE: Final = 2e-2
"""For graphs that compute in 16 bits."""
_TOKENS: Final = 77
_TIMESTEP: Final = 500.0


class GuardError(RuntimeError):
    """An executor that does not compute what eager does; the text gives the figure."""


def guard_inputs(graph: Graph, config: Any, size: tuple[int, int], device: torch.device) -> dict[str, torch.Tensor]:
    """Two fixed images' inputs."""
    import torch

    generator, dtype = torch.Generator().manual_seed(0), getattr(torch, graph.dtype)
    width = config.cross_attention_dim
    texts = (2, _TOKENS, int(width[0] if isinstance(width, list | tuple) else width))
    inputs = {"sample": torch.randn((2, config.in_channels, *size), generator=generator).to(dtype),
              "timestep": torch.tensor(_TIMESTEP), "encoder_hidden_states": torch.randn(texts, generator=generator).to(dtype)}
    if "text_embeds" in graph.inputs:
        pooled, ids = graph.added
        inputs |= {"text_embeds": torch.randn((2, pooled), generator=generator).to(dtype),
                   "time_ids": torch.tensor([512.0, 512.0, 0.0, 0.0, 512.0, 512.0][:ids]).repeat(2, 1)}
    return {name: tensor.to(device) for name, tensor in inputs.items()}


def distance(executed: torch.Tensor, eager: torch.Tensor) -> float:
    """The largest difference over eager's largest value; NaN if either holds one."""
    eager = eager.double()
    return float((executed.double() - eager).abs().max() / eager.abs().max())


def refuse_distant(error: float, tolerance: float, dtype: str) -> None:
    """Raises GuardError for an error above the tolerance, or NaN."""
    allowed = tolerance if dtype == "float32" else max(tolerance, HALF_TOLERANCE)
    if not error <= allowed:
        raise GuardError(f"one forward differs from eager by {error:.2g} of the largest value; at most {allowed:g} is allowed")
