"""What A1111, Forge, ComfyUI and InvokeAI call samplers and schedules, and what they are called here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from harness.declare.nearest import closest, did_you_mean

SCHEDULE_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "normal": ("uniform",), "karras": (), "exponential": (), "sgm_uniform": (), "beta": (), "simple": ()}
"""The schedules, with other names of each."""

SAMPLER_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "ddim": (),
    "euler": (),
    "euler_a": ("euler ancestral",),
    "dpmpp_2m": ("k_dpmpp_2m",),
    "dpmpp_2m_karras": (),
    "unipc": ("uni_pc", "uni_pc_bh2"),
    "heun": (),
    "dpm2": ("dpm_2", "kdpm_2"),
    "dpm2_a": ("dpm_2_ancestral", "dpm2 ancestral", "dpm_2_a", "kdpm_2_a"),
    "lms": (),
    "dpmpp_2s_a": ("dpmpp_2s_ancestral",),
    "dpmpp_sde": ("dpmpp_sde_gpu",),
    "dpmpp_2m_sde": ("dpmpp_2m_sde_gpu",),
    "dpmpp_2m_sde_heun": ("dpmpp_2m_sde_heun_gpu",),
    "dpmpp_3m_sde": ("dpmpp_3m_sde_gpu",),
    "dpmpp_3m": (),
    "dpmpp_2s": (),
    "deis": (),
    "sa_solver": (),
    "ddpm": (),
    "plms": ("pndm",),
    "lcm": (),
    "tcd": (),
    "flow_euler": (),
    "flow_heun": (),
    "own": (),
}
"""The samplers, with other names of each. Case, spaces, hyphens, "k_" in front and "++" for "pp" make no difference."""

AUTOMATIC: Final[Mapping[str, str]] = {
    "dpm2": "karras", "dpm2_a": "karras", "dpmpp_2m": "karras", "dpmpp_2s_a": "karras", "dpmpp_sde": "karras",
    "dpmpp_2m_sde": "exponential", "dpmpp_2m_sde_heun": "exponential", "dpmpp_3m_sde": "exponential",
    "euler": "normal", "euler_a": "normal", "lms": "normal", "heun": "normal"}
"""The schedule that A1111's "Automatic" means for a sampler."""

_ABSENT: Final = frozenset((
    "dpm_fast", "dpm_adaptive", "restart", "heunpp2", "ipndm", "ipndm_v", "euler_cfg_pp", "euler_ancestral_cfg_pp",
    "euler_a_cfg_pp", "ddim_cfg_pp", "dpmpp_2s_ancestral_cfg_pp", "dpmpp_2m_cfg_pp", "res_multistep",
    "res_multistep_cfg_pp", "res_multistep_ancestral", "gradient_estimation", "er_sde", "seeds_2", "seeds_3", "sa_solver_pece"))
_ABSENT_SCHEDULES: Final = frozenset((
    "polyexponential", "kl_optimal", "align_your_steps", "ddim_uniform", "linear_quadratic", "turbo", "bong_tangent",
    "karras_exponential"))


def sampler_named(text: str) -> tuple[str, str]:
    """The sampler and the schedule that a tool means by `text`: ("dpmpp_2m", "karras") for "DPM++ 2M Karras". The schedule is ""
    if the text names none; "Automatic" behind a sampler is A1111's choice for it. Raises ValueError, with the nearest known name,
    for a name that is not known, and for those of the tools that diffusers does not have."""
    if text in SAMPLER_NAMES:
        return text, ""
    name = _plain(text)
    if name in _BY_NAME:
        return _BY_NAME[name], ""
    sampler, schedule = _divided(name)
    if schedule == "automatic" and sampler in _BY_NAME:
        return _BY_NAME[sampler], AUTOMATIC.get(_BY_NAME[sampler], "")
    if schedule in _SCHEDULE_BY_NAME and sampler in _BY_NAME:
        return _BY_NAME[sampler], _SCHEDULE_BY_NAME[schedule]
    if name in _ABSENT or sampler in _ABSENT:
        raise ValueError(f"sampler {text!r} is not offered, because diffusers does not have it; choose another, such as "
                         f"{_similar(sampler)!r}")
    raise ValueError(f"unknown sampler {text!r}; {did_you_mean(sampler or name, SAMPLER_NAMES)}")


def schedule_named(text: str) -> str:
    """The schedule that a tool means by `text`: "sgm_uniform" for "SGM Uniform". Raises ValueError, with the nearest known name,
    for another."""
    name = _plain(text)
    if name in _SCHEDULE_BY_NAME:
        return _SCHEDULE_BY_NAME[name]
    if name in _ABSENT_SCHEDULES:
        raise ValueError(f"schedule {text!r} is not offered; choose one of {', '.join(map(repr, SCHEDULE_NAMES))}")
    raise ValueError(f"unknown schedule {text!r}; {did_you_mean(name, SCHEDULE_NAMES)}")


def canonical(sampler: Any, schedule: Any) -> tuple[Any, Any]:
    """A declared sampler and schedule by our names. What no tool calls so, or says two schedules, is left for the check."""
    if isinstance(schedule, str) and schedule:
        with suppress(ValueError):
            schedule = schedule_named(schedule)
    if isinstance(sampler, str) and sampler not in SAMPLER_NAMES:
        with suppress(ValueError):
            named, own = sampler_named(sampler)
            if not own or schedule in (None, own):
                return named, own or schedule
    return sampler, schedule


def _plain(text: str) -> str:
    """One spelling of all: "DPM++ 2M SDE Karras", "k_dpmpp_2m_sde_karras" and "dpmpp-2m-sde karras" are one."""
    words = re.sub(r"[\s\-_]+", "_", text.strip().lower().replace("++", "pp").replace("dpmpp", "dpmpp_")).strip("_")
    return re.sub(r"_+", "_", words).removeprefix("k_")


def _divided(name: str) -> tuple[str, str]:
    """A name in the sampler and the schedule behind it; InvokeAI writes "_k" for karras, A1111 once wrote "_ka"."""
    for schedule in sorted((*_SCHEDULE_BY_NAME, *_ABSENT_SCHEDULES, "automatic"), key=len, reverse=True):
        if name.endswith(f"_{schedule}"):
            return name.removesuffix(f"_{schedule}"), schedule
    for ending in ("_ka", "_k"):
        if name.endswith(ending):
            return name.removesuffix(ending), "karras"
    return name, ""


def _similar(name: str) -> str:
    return closest(name, SAMPLER_NAMES, cutoff=0)[0]


_SCHEDULE_BY_NAME: Final = {_plain(name): known for known, others in SCHEDULE_NAMES.items() for name in (known, *others)}
_BY_NAME: Final = {_plain(name): known for known, others in SAMPLER_NAMES.items() for name in (known, *others)
                     if known != "dpmpp_2m_karras"}
