"""What keeps a sampler from sampling a model."""

from __future__ import annotations

from typing import Final

from harness.samplers.table import SAMPLERS

FLOW_FAMILIES: Final = ("sd3", "flux")
OWN: Final = "own"
"""The sampler that is the scheduler of the model's folder."""


def called_by_diffusers(family: str) -> bool:
    """Whether models of a family are sampled by a call of diffusers: `family` may be the class of the pipeline itself."""
    return family in FLOW_FAMILIES or is_pipeline(family)


def is_pipeline(family: str) -> bool:
    """Whether what stands for the family is the class of the pipeline by which a folder is sampled."""
    return family.endswith("Pipeline")


def sampler_problem(sampler: str, family: str) -> str:
    """What keeps a sampler from sampling a family of models; empty when nothing does."""
    if is_pipeline(family):  # which is asked itself
        return ""
    flow = family in FLOW_FAMILIES
    if sampler == OWN:
        return (f"sampler {OWN!r} is for folders that their own pipeline samples, and this is a model of the family {family}; "
                f"expected {_either(_fitting(family))}")
    # Flux computes its own noise levels from the size of the image, which diffusers' Heun does not take.
    if SAMPLERS[sampler].flow == flow and (sampler, family) != ("flow_heun", "flux"):
        return ""
    return f"sampler {sampler!r} cannot sample a model of the family {family}; expected {_either(_fitting(family))}"


def _fitting(family: str) -> list[str]:
    return [name for name, row in SAMPLERS.items() if name != OWN and row.flow == (family in FLOW_FAMILIES) and (
        name, family) != ("flow_heun", "flux")]


def zero_snr_problem(sampler: str) -> str:
    """What keeps a sampler from a model that was trained to begin at pure noise; empty when nothing does. diffusers' from_config
    leaves out what a scheduler does not know, without a word; the end of the noise is no detail."""
    if SAMPLERS[sampler].zero_snr:
        return ""
    fitting = [name for name, row in SAMPLERS.items() if row.zero_snr]
    return f"sampler {sampler!r} cannot sample a model with zero terminal SNR; expected {_either(fitting)}"


def _either(names: list[str]) -> str:
    return " or ".join(map(repr, names)) if len(names) < 3 else f"{', '.join(map(repr, names[:-1]))} or {names[-1]!r}"
