"""SAMPLERS: the names a Grid may use, each a diffusers scheduler with the settings the name stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, Final


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """`scheduler` is a class of diffusers; `settings` override the checkpoint's own scheduler config. An `ancestral`
    sampler draws new noise at every step; a `flow` sampler is for models trained by flow matching (Stable Diffusion 3, Flux),
    which take no other. With `sends`, diffusers sends numbers or noise to the device at every step."""

    scheduler: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    ancestral: bool = False
    flow: bool = False
    sends: bool = False


SAMPLERS: Final[dict[str, Sampler]] = {
    "ddim": Sampler(scheduler="DDIMScheduler"),
    "euler": Sampler(scheduler="EulerDiscreteScheduler"),
    "euler_a": Sampler(scheduler="EulerAncestralDiscreteScheduler", ancestral=True, sends=True),
    "dpmpp_2m": Sampler(scheduler="DPMSolverMultistepScheduler",
                        settings={"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "dpmpp_2m_karras": Sampler(scheduler="DPMSolverMultistepScheduler",
                               settings={"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": True}),
    "unipc": Sampler(scheduler="UniPCMultistepScheduler", sends=True),
    "flow_euler": Sampler(scheduler="FlowMatchEulerDiscreteScheduler", flow=True),
}


FLOW_FAMILIES: Final = ("sd3", "flux")


def sampler_problem(sampler: str, family: str) -> str:
    """What keeps a sampler from sampling a family of models; empty when nothing does."""
    if SAMPLERS[sampler].flow == (family in FLOW_FAMILIES):
        return ""
    fitting = [name for name, row in SAMPLERS.items() if row.flow == (family in FLOW_FAMILIES)]
    return f"sampler {sampler!r} cannot sample a model of the family {family}; expected {' or '.join(map(repr, fitting))}"


def build_scheduler(sampler: str, config: Mapping[str, Any]) -> Any:
    """The diffusers scheduler for `sampler`, started from the checkpoint's scheduler `config` (betas, prediction type)."""
    import diffusers

    row = SAMPLERS[sampler]
    plain = {k: v for k, v in config.items() if not k.startswith("_")}
    kind = getattr(diffusers, row.scheduler)
    # from_config leaves out what a scheduler does not know, without a word; the end of the noise is no detail.
    if plain.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in signature(kind.__init__).parameters:
        raise ValueError(f"sampler {sampler!r} cannot sample a model with zero terminal SNR; use another, such as 'euler'")
    if plain.get("rescale_betas_zero_snr"):
        # Trained to begin at pure noise, and brightness comes wrong from anywhere else (Lin et al., arXiv 2305.08891).
        plain["timestep_spacing"] = "trailing"
    return kind.from_config({**plain, **row.settings})
