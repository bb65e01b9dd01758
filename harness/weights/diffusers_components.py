"""The components of a diffusers model: their naming by family, and the file that holds them behind their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from harness.weights.constants import is_harmless
from harness.weights.families import EITHER, MARKERS, VAE_STARTS, Kind, Part, family_of_folder
from harness.weights.safetensors_header import StoredTensor

_COMPONENT: Final = re.compile(r"(unet|transformer|vae|text_encoder(?:_[23])?)\.")
_NAMINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "": {"text_encoder": "clip"}, "sd1": {"text_encoder": "clip"}, "sd2": {"text_encoder": "clip"},
    "sdxl": {"text_encoder": "clip", "text_encoder_2": "clip-projected"},
    "sdxl_refiner": {"text_encoder_2": "clip-projected"},
    "flux": {"transformer": "flux", "text_encoder": "clip", "text_encoder_2": "t5"},
    "sd3": {"transformer": "sd3", "text_encoder": "clip-projected", "text_encoder_2": "clip-projected", "text_encoder_3": "t5"},
}
"""The naming of each component of a diffusers model beside its U-Net and VAE."""


def namings_of(family: str, stored: Mapping[str, Mapping[str, StoredTensor]]) -> dict[str, str]:
    """{component: naming} of the components that a diffusers model of this family has."""
    namings = {"unet": "unet", "vae": "vae", **_NAMINGS[family]}
    if not family and any(".attn.add_q_proj." in name for name in stored.get("transformer", ())):
        namings["transformer"] = EITHER
    return namings


def components_in_one(stored: Mapping[str, StoredTensor]) -> Kind | None:
    """A file with the components of a diffusers model behind their names ("unet.", "vae.", "text_encoder."), as trainers that
    hold all of them save it. None for all others."""
    below: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in stored.items():
        if match := _COMPONENT.match(name):
            below.setdefault(match[1], {})[name[match.end():]] = tensor
        elif not is_harmless(name) and name not in MARKERS:
            return None
    family = family_of_folder(below)
    namings = namings_of(family, below)
    if not any(name.startswith(VAE_STARTS) for name in below.get("vae", ())):
        namings["vae"] = "vae-ldm"
    # ComfyUI's "vae." stands before the original code's names, and "transformer." is written before those of one transformer.
    other_tools = below.keys() <= {"transformer", "vae"} and namings["vae"] == "vae-ldm"
    if other_tools or not below.keys() <= namings.keys():
        return None
    return Kind(family=family, layout="diffusers", parts=tuple(
        Part(component=component, prefix=f"{component}.", naming=namings[component]) for component in below))
