"""How an image of a run was made, as the text of a picture: as declared, and in the words of A1111."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Final

from harness.declare import Candidate, Suite
from harness.declare.effective_grid import grid_of, sampler_of
from harness.declare.picture_text import PictureText
from harness.records import Cell
from harness.version import __version__

NOISE: Final = "drawn by Sweetspot; the same seed gives another picture in other tools"
SAMPLERS_IN_A1111: Final[Mapping[str, str]] = {
    "ddim": "DDIM", "euler": "Euler", "euler_a": "Euler a", "dpmpp_2m": "DPM++ 2M", "unipc": "UniPC", "heun": "Heun",
    "dpm2": "DPM2", "dpm2_a": "DPM2 a", "lms": "LMS", "dpmpp_2s_a": "DPM++ 2S a", "dpmpp_sde": "DPM++ SDE",
    "dpmpp_2m_sde": "DPM++ 2M SDE", "dpmpp_2m_sde_heun": "DPM++ 2M SDE Heun", "dpmpp_3m_sde": "DPM++ 3M SDE", "plms": "PLMS",
    "deis": "DEIS", "lcm": "LCM", "flow_euler": "Euler", "flow_heun": "Heun"}
"""What A1111 calls the samplers."""
SCHEDULES_IN_A1111: Final = {"sgm_uniform": "SGM Uniform"}
"""What A1111 calls the schedules, where that is not the name with a capital letter."""


def picture_of(suite: Suite, candidate: Candidate, cell: Cell, model: tuple[str, str] = ("", "")) -> PictureText:
    """How the image of a cell was made, as declared. `model` is the name and the hash of the file with the weights, empty where
    there is none."""
    grid, prompt = grid_of(suite, candidate), next(p for p in suite.grid.prompts if p.id == cell.prompt)
    sampler, schedule = sampler_of(grid)
    adapters = ", ".join(f"{PurePath(adapter.path).stem} {adapter.weight:g}" for adapter in candidate.adapters)
    others = {"Candidate": candidate.name, "Adapters": adapters, "Noise": NOISE, "Version": f"sweetspot {__version__}"}
    return PictureText(
        tool="Sweetspot", syntax=prompt.syntax or grid.syntax, prompt=prompt.text, negative=prompt.negative, seed=cell.seed,
        steps=grid.steps, sampler=sampler, schedule=schedule, guidance=float(cell.guidance), width=grid.width,
        height=grid.height, clip_skip=grid.sampling.clip_skip if grid.sampling else None, model=model[0], model_hash=model[1],
        others={name: text for name, text in others.items() if text})


def as_a1111(picture: PictureText) -> PictureText:
    """The same in the words of A1111: its names of samplers and schedules; brackets that are text where they come from
    are escaped, because it would read them as weights."""
    return replace(picture, prompt=_escaped(picture.prompt, picture.syntax), negative=_escaped(picture.negative, picture.syntax),
                   sampler=SAMPLERS_IN_A1111.get(picture.sampler, picture.sampler),
                   schedule=SCHEDULES_IN_A1111.get(picture.schedule, picture.schedule.capitalize()))


def _escaped(text: str, syntax: str) -> str:
    acting = {"plain": r"([\\()\[\]])", "comfyui": r"([\[\]])"}.get(syntax)  # square brackets are text in ComfyUI
    return re.sub(acting, r"\\\1", text) if acting else text
