"""How an image of a run was made, as the text of a picture: as declared, and in the words of A1111."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePath
from typing import Final

from harness.declare import Candidate, Suite
from harness.declare.candidate_words import scheme_of
from harness.declare.effective_grid import grid_of, picture_size, sampler_of
from harness.declare.hub_names import file_name
from harness.declare.picture_text import PictureText
from harness.declare.prompt_groups import for_prompt
from harness.promotion.adapters_in_a1111 import AdaptersInA1111
from harness.promotion.candidate_in_a1111 import pairs_in_a1111
from harness.promotion.samplers_in_a1111 import AUTOMATIC, SAMPLERS_IN_A1111, sampler_in_a1111, schedule_in_a1111
from harness.records import Cell
from harness.samplers import SAMPLERS, SCHEDULES
from harness.version import __version__

LORA_HASHES: Final = "Lora hashes"
NOISE: Final = "drawn by Sweetspot; the same seed gives another picture in other tools"


def picture_of(suite: Suite, candidate: Candidate, cell: Cell, model: tuple[str, str] = ("", "")) -> PictureText:
    """How the image of a cell was made, as declared. `model` is the name and the hash of the file with the weights, empty where
    there is none."""
    grid, prompt = grid_of(suite, candidate), next(p for p in suite.grid.prompts if p.id == cell.prompt)
    sampler, schedule = sampler_of(grid)
    acting = for_prompt(candidate, prompt).adapters
    adapters = ", ".join(f"{PurePath(file_name(adapter.path)).stem} {adapter.weight:g}" for adapter in acting)
    others = {"Candidate": candidate.name, "Made by": "" if candidate.in_one_file else scheme_of(candidate), "Adapters": adapters,
              **pairs_in_a1111(suite, candidate, cell), "Noise": NOISE, "Version": f"sweetspot {__version__}"}
    width, height = picture_size(suite, candidate)
    return PictureText(
        tool="Sweetspot", syntax=prompt.syntax or grid.syntax, prompt=prompt.text, negative=prompt.negative, seed=cell.seed,
        steps=grid.steps, sampler=sampler, schedule=schedule, guidance=float(cell.guidance), width=width, height=height,
        clip_skip=grid.sampling.clip_skip if grid.sampling else None, model=model[0], model_hash=model[1],
        others={name: text for name, text in others.items() if text})


def as_a1111(picture: PictureText, adapters: AdaptersInA1111 | None = None) -> PictureText:
    """The same in the words of A1111: its names of samplers and schedules, tags and hashes of adapters; brackets that are text
    where they come from are escaped, because it would read them as weights."""
    tags, hashes = (adapters.tags, adapters.hashes) if adapters else ((), None)
    found_by = {LORA_HASHES: ", ".join(f"{name}: {digest}" for name, digest in hashes.items())} if hashes else {}
    return replace(picture, prompt=" ".join((_escaped(picture.prompt, picture.syntax), *tags)),
                   negative=_escaped(picture.negative, picture.syntax),
                   sampler=sampler_in_a1111(picture.sampler), schedule=schedule_in_a1111(picture.sampler, picture.schedule),
                   others={**found_by, **picture.others})


def differences_in_a1111(picture: PictureText) -> tuple[str, ...]:
    """In a sentence each: why A1111 does not take the steps that the picture was made with, though its text says what is nearest
    to them there."""
    sampler, schedule = SAMPLERS_IN_A1111.get(picture.sampler), schedule_in_a1111(picture.sampler, picture.schedule)
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


def _escaped(text: str, syntax: str) -> str:
    acting = {"plain": r"([\\()\[\]])", "comfyui": r"([\[\]])"}.get(syntax)  # square brackets are text in ComfyUI
    return re.sub(acting, r"\\\1", text) if acting else text
