"""How an image of a run was made, as the text of a picture: as declared, and in the words of A1111."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Final

from harness.declare import Candidate, Suite
from harness.declare.candidate_words import scheme_of
from harness.declare.effective_grid import grid_of, picture_size, sampler_of
from harness.declare.picture_text import PictureText
from harness.declare.prompt_groups import for_prompt
from harness.promotion.adapters_in_a1111 import AdaptersInA1111
from harness.records import Cell
from harness.samplers import SAMPLERS, SCHEDULES
from harness.version import __version__

LORA_HASHES: Final = "Lora hashes"
NOISE: Final = "drawn by Sweetspot; the same seed gives another picture in other tools"
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


def picture_of(suite: Suite, candidate: Candidate, cell: Cell, model: tuple[str, str] = ("", "")) -> PictureText:
    """How the image of a cell was made, as declared. `model` is the name and the hash of the file with the weights, empty where
    there is none."""
    grid, prompt = grid_of(suite, candidate), next(p for p in suite.grid.prompts if p.id == cell.prompt)
    sampler, schedule = sampler_of(grid)
    acting = for_prompt(candidate, prompt).adapters
    adapters = ", ".join(f"{PurePath(adapter.path).stem} {adapter.weight:g}" for adapter in acting)
    others = {"Candidate": candidate.name, "Made by": "" if candidate.in_one_file else scheme_of(candidate), "Adapters": adapters,
              "Noise": NOISE, "Version": f"sweetspot {__version__}"}
    return PictureText(
        tool="Sweetspot", syntax=prompt.syntax or grid.syntax, prompt=prompt.text, negative=prompt.negative, seed=cell.seed,
        steps=grid.steps, sampler=sampler, schedule=schedule, guidance=float(cell.guidance), width=grid.width,
        height=grid.height, clip_skip=grid.sampling.clip_skip if grid.sampling else None, model=model[0], model_hash=model[1],
        others={name: text for name, text in others.items() if text})


def as_a1111(picture: PictureText, adapters: AdaptersInA1111 | None = None) -> PictureText:
    """The same in the words of A1111: its names of samplers and schedules, tags and hashes of adapters; brackets that are text
    where they come from are escaped, because it would read them as weights."""
    tags, hashes = (adapters.tags, adapters.hashes) if adapters else ((), None)
    found_by = {LORA_HASHES: ", ".join(f"{name}: {digest}" for name, digest in hashes.items())} if hashes else {}
    return replace(picture, prompt=" ".join((_escaped(picture.prompt, picture.syntax), *tags)),
                   negative=_escaped(picture.negative, picture.syntax),
                   sampler=SAMPLERS_IN_A1111.get(picture.sampler, picture.sampler), schedule=_schedule(picture),
                   others={**found_by, **picture.others})


def differences_in_a1111(picture: PictureText) -> tuple[str, ...]:
    """In a sentence each: why A1111 does not take the steps that the picture was made with, though its text says what is nearest
    to them there."""
    sampler, schedule = SAMPLERS_IN_A1111.get(picture.sampler), _schedule(picture)
    differences = []
    if sampler is None:
        differences.append(f"A1111 has no sampler {picture.sampler!r}")
    elif picture.sampler not in SAMPLERS or "A1111" not in SAMPLERS[picture.sampler].same_as:
        differences.append(f"A1111's sampler {sampler!r} takes other steps")
    if not picture.schedule:
        instead = "A1111 takes its own" if schedule == AUTOMATIC else (
            f"A1111's {schedule!r} is the nearest, and equal for some configs only")
        differences.append(f"no schedule was declared, so the timesteps are those of diffusers for the model's config; {instead}")
    elif picture.schedule not in SCHEDULES or "A1111" not in SCHEDULES[picture.schedule].same_as:
        differences.append(f"A1111's schedule {schedule!r} has other noise levels")
    return tuple(differences)


def beyond_a_text(suite: Suite, candidate: Candidate) -> tuple[str, ...]:
    """In a sentence: what made a candidate's images besides the one model and the one run that a text describes."""
    if candidate.in_one_file:
        return ()
    grid, size = grid_of(suite, candidate), picture_size(suite, candidate)
    other_size = "" if size == (grid.width, grid.height) else (
        f", and its size is that of the first stage: the pictures have {size[0]} x {size[1]} pixels")
    return (f"the text describes one model in one run, and the pictures were made by {scheme_of(candidate)}, for which it has no "
            f"words{other_size}",)


def _schedule(picture: PictureText) -> str:
    if not picture.schedule:
        return NEAREST_IN_A1111.get(picture.sampler, "Uniform")
    return SCHEDULES_IN_A1111.get(picture.schedule, picture.schedule.capitalize())


def _escaped(text: str, syntax: str) -> str:
    acting = {"plain": r"([\\()\[\]])", "comfyui": r"([\[\]])"}.get(syntax)  # square brackets are text in ComfyUI
    return re.sub(acting, r"\\\1", text) if acting else text
