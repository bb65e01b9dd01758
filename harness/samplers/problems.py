"""What keeps a sampler from sampling a model."""

from __future__ import annotations

from typing import Final

from harness.samplers.table import SAMPLERS

FLOW_FAMILIES: Final = ("sd3", "flux")


def sampler_problem(sampler: str, family: str) -> str:
    """What keeps a sampler from sampling a family of models; empty when nothing does."""
    flow = family in FLOW_FAMILIES
    # Flux computes its own noise levels from the size of the image, which diffusers' Heun does not take.
    if SAMPLERS[sampler].flow == flow and (sampler, family) != ("flow_heun", "flux"):
        return ""
    fitting = [name for name, row in SAMPLERS.items() if row.flow == flow and (name, family) != ("flow_heun", "flux")]
    return f"sampler {sampler!r} cannot sample a model of the family {family}; expected {_either(fitting)}"


def zero_snr_problem(sampler: str) -> str:
    """What keeps a sampler from a model that was trained to begin at pure noise; empty when nothing does. diffusers' from_config
    leaves out what a scheduler does not know, without a word; the end of the noise is no detail."""
    if SAMPLERS[sampler].zero_snr:
        return ""
    fitting = [name for name, row in SAMPLERS.items() if row.zero_snr]
    return f"sampler {sampler!r} cannot sample a model with zero terminal SNR; expected {_either(fitting)}"


def _either(names: list[str]) -> str:
    return " or ".join(map(repr, names)) if len(names) < 3 else f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"
