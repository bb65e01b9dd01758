"""SAMPLERS: the names a Grid may use, each a diffusers scheduler with the settings the name stands for. check reads
the names, sample builds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """`scheduler` is a class of diffusers; `settings` override the checkpoint's own scheduler config."""

    scheduler: str
    settings: Mapping[str, Any] = field(default_factory=dict)


SAMPLERS: Final[dict[str, Sampler]] = {
    "ddim": Sampler(scheduler="DDIMScheduler"),
    "euler": Sampler(scheduler="EulerDiscreteScheduler"),
    "dpmpp_2m": Sampler(scheduler="DPMSolverMultistepScheduler",
                        settings={"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "dpmpp_2m_karras": Sampler(scheduler="DPMSolverMultistepScheduler",
                               settings={"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": True}),
    "unipc": Sampler(scheduler="UniPCMultistepScheduler"),
}


def build_scheduler(sampler: str, config: Mapping[str, Any]) -> Any:
    """The diffusers scheduler for `sampler`, started from the checkpoint's scheduler `config` (betas, prediction type)."""
    import diffusers

    row = SAMPLERS[sampler]
    plain = {k: v for k, v in config.items() if not k.startswith("_")}
    return getattr(diffusers, row.scheduler).from_config({**plain, **row.settings})
