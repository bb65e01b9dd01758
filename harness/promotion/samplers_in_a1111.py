"""What A1111 calls our samplers and schedules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SAMPLERS_IN_A1111: Final[Mapping[str, str]] = {
    "ddim": "DDIM", "euler": "Euler", "euler_a": "Euler a", "dpmpp_2m": "DPM++ 2M", "unipc": "UniPC", "heun": "Heun",
    "dpm2": "DPM2", "dpm2_a": "DPM2 a", "lms": "LMS", "dpmpp_2s_a": "DPM++ 2S a", "dpmpp_sde": "DPM++ SDE",
    "dpmpp_2m_sde": "DPM++ 2M SDE", "dpmpp_2m_sde_heun": "DPM++ 2M SDE Heun", "dpmpp_3m_sde": "DPM++ 3M SDE", "plms": "PLMS",
    "deis": "DEIS", "lcm": "LCM", "flow_euler": "Euler", "flow_heun": "Heun"}
"""What A1111 calls the samplers."""
SCHEDULES_IN_A1111: Final = {"sgm_uniform": "SGM Uniform"}
"""What A1111 calls the schedules, where that is not the name with a capital letter."""
AUTOMATIC: Final = "Automatic"
"""Karras or exponential for most samplers of A1111, also where a text names no schedule."""
NEAREST_IN_A1111: Final[Mapping[str, str]] = {
    **dict.fromkeys(("ddim", "plms", "unipc", "lcm", "ddpm", "tcd"), AUTOMATIC),
    **dict.fromkeys(("dpmpp_2m", "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde", "dpmpp_3m", "dpmpp_2s", "deis",
                     "sa_solver"), "SGM Uniform"),
    **dict.fromkeys(("euler", "euler_a", "heun", "dpm2", "dpm2_a", "lms", "dpmpp_2s_a", "dpmpp_sde"), "Uniform"),
    **dict.fromkeys(("flow_euler", "flow_heun"), "Simple")}
"""Without a declared schedule: the schedule type of A1111 whose timesteps are nearest to those of diffusers with the configs of
Stable Diffusion, or "Automatic" for samplers that take their own there, whatever is chosen."""


def sampler_in_a1111(sampler: str) -> str:
    """A1111's name of a sampler; ours where it has none."""
    return SAMPLERS_IN_A1111.get(sampler, sampler)


def schedule_in_a1111(sampler: str, schedule: str) -> str:
    """A1111's name of a schedule; of none the nearest one to what the sampler takes itself."""
    if not schedule:
        return NEAREST_IN_A1111.get(sampler, "Uniform")
    return SCHEDULES_IN_A1111.get(schedule, schedule.capitalize())
