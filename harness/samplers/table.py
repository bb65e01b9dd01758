"""The rows of SAMPLERS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Levels = Literal["", "plain", "heun", "dpm2", "dpm2_a", "midpoint", "timesteps", "trailing"]
EVERY: Final = ("normal", "karras", "exponential", "sgm_uniform", "beta", "simple")


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """`scheduler` is a class of diffusers, or of this folder; `settings` override the checkpoint's own scheduler config.

    An `ancestral` sampler draws new noise at its steps, from each image's own generator. A `flow` sampler is for models trained
    by flow matching (Stable Diffusion 3, Flux), which take no other. "own", which has no class, is the scheduler of a model's
    folder. With `sends`, diffusers sends numbers or noise to the device at every step. `levels` says how the scheduler is given
    the noise levels of a schedule: "" if it takes none. `discards` says that A1111 and ComfyUI ask for one step more and leave
    out the last level but one. `evaluations` is how often the denoiser runs: once or twice a step, or "plms": once, and twice in
    the first. `eta` is the default of a sampler that has that knob. `most_steps` is how many different steps its own timesteps
    have with the configs of Stable Diffusion, whose first one of 1000 is 1000, beyond the last that a model knows. `zero_snr`
    says that it can begin at pure noise. `same_as` names the tools whose steps are these, given equal levels.
    """

    scheduler: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    ancestral: bool = False
    flow: bool = False
    sends: bool = True
    zero_snr: bool = True
    levels: Levels = "plain"
    discards: bool = False
    evaluations: Literal["once", "twice", "plms"] = "once"
    eta: float | None = None
    most_steps: int = 1000
    same_as: tuple[str, ...] = ()

    @property
    def schedules(self) -> tuple[str, ...]:
        """The schedules that it can be given."""
        own = bool({"use_karras_sigmas"} & set(self.settings))
        return () if self.levels == "" or own else ("sgm_uniform",) if self.levels == "trailing" else EVERY


_K: Final = ("A1111", "ComfyUI")
_DPMPP: Final = "DPMSolverMultistepScheduler"


def _dpmpp(order: int, kind: str = "dpmsolver++", **settings: Any) -> dict[str, Any]:
    return {"algorithm_type": kind, "solver_order": order, **settings}


SAMPLERS: Final[dict[str, Sampler]] = {
    "ddim": Sampler(scheduler="DDIMScheduler", most_steps=999, sends=False, levels="trailing", eta=0.0),
    "euler": Sampler(scheduler="EulerDiscreteScheduler", sends=False, same_as=_K),
    "euler_a": Sampler(scheduler="EulerAncestralDiscreteScheduler", ancestral=True, same_as=_K),
    "dpmpp_2m": Sampler(scheduler=_DPMPP, most_steps=999, settings=_dpmpp(2), sends=False, same_as=_K),
    "dpmpp_2m_karras": Sampler(scheduler=_DPMPP, settings=_dpmpp(2, use_karras_sigmas=True), sends=False, same_as=_K),
    "unipc": Sampler(scheduler="UniPCMultistepScheduler", most_steps=999, discards=True),
    "heun": Sampler(scheduler="HeunDiscreteScheduler", zero_snr=False, levels="heun", evaluations="twice", same_as=_K),
    "dpm2": Sampler(scheduler="Dpm2", zero_snr=False, levels="dpm2", discards=True, evaluations="twice", same_as=_K),
    "dpm2_a": Sampler(scheduler="Dpm2Ancestral", zero_snr=False, levels="dpm2_a", discards=True, evaluations="twice",
                      ancestral=True, same_as=_K),
    "lms": Sampler(scheduler="LMSDiscreteScheduler", zero_snr=False, same_as=_K),
    "dpmpp_2s_a": Sampler(scheduler="MidpointScheduler", settings={"kind": "ancestral"}, levels="midpoint", evaluations="twice",
                          ancestral=True, eta=1.0, same_as=_K),
    "dpmpp_sde": Sampler(scheduler="MidpointScheduler", settings={"kind": "sde"}, levels="midpoint", evaluations="twice",
                         ancestral=True, eta=1.0, same_as=_K),
    "dpmpp_2m_sde": Sampler(scheduler=_DPMPP, most_steps=999, settings=_dpmpp(2, "sde-dpmsolver++"), ancestral=True, same_as=_K),
    "dpmpp_2m_sde_heun": Sampler(scheduler=_DPMPP, most_steps=999, settings=_dpmpp(2, "sde-dpmsolver++", solver_type="heun"),
                                 ancestral=True, same_as=_K),
    "dpmpp_3m_sde": Sampler(scheduler="ThirdOrderSde", most_steps=999, settings=_dpmpp(3, "sde-dpmsolver++", solver_type="heun",
                                                                       lower_order_final=False), ancestral=True, same_as=_K),
    "dpmpp_3m": Sampler(scheduler=_DPMPP, most_steps=999, settings=_dpmpp(3)),
    "dpmpp_2s": Sampler(scheduler="DPMSolverSinglestepScheduler", zero_snr=False, settings=_dpmpp(2)),
    "deis": Sampler(scheduler="Deis", most_steps=999, zero_snr=False),
    "sa_solver": Sampler(scheduler="SASolverScheduler", most_steps=999, zero_snr=False, levels="", ancestral=True),
    "ddpm": Sampler(scheduler="DDPMScheduler", most_steps=999, levels="trailing", ancestral=True),
    "plms": Sampler(scheduler="Plms", most_steps=999, zero_snr=False, settings={"skip_prk_steps": True}, levels="trailing",
                    evaluations="plms"),
    "lcm": Sampler(scheduler="LCMScheduler", most_steps=50, levels="timesteps", ancestral=True),
    "tcd": Sampler(scheduler="TCDScheduler", most_steps=50, levels="timesteps", ancestral=True, eta=0.3),
    "flow_euler": Sampler(scheduler="FlowMatchEulerDiscreteScheduler", zero_snr=False, flow=True, levels=""),
    "flow_heun": Sampler(scheduler="FlowMatchHeunDiscreteScheduler", zero_snr=False, flow=True, levels="", evaluations="twice"),
    "own": Sampler(scheduler="", zero_snr=False, flow=True, levels=""),
}
