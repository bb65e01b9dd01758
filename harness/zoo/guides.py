"""The zoo's networks that are guided by a picture, as files: the edge ControlNet in the layouts of the original code and of
diffusers, and the image prompt, a plain IP-Adapter, in both published forms.

Needs numpy, and torch for the .bin alone."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.weights.ldm import unet_to_ldm
from harness.zoo.layouts import NUMBERING

Tensors = dict[str, NDArray[Any]]
CONTROL_CONFIG = "control-edges.json"
"""diffusers' configuration of the ControlNet, among the stored parts."""


@dataclass(frozen=True, kw_only=True)
class Guide:
    """One file: the part of the repository it is made from, its name below the cache, and the function that makes its tensors.
    `config` is the stored configuration that lies beside it in a folder, `pickled` says that it is torch's pickle."""

    part: str
    file: str
    make: Callable[[Tensors], Tensors]
    config: str = ""
    pickled: bool = False


def original_control(net: Tensors) -> Tensors:
    """The names of ControlNet's original code: `control_model.` and the encoder's names in Stable Diffusion 1."""
    own = re.compile(r"controlnet_(cond_embedding|down_blocks|mid_block)\b")
    encoder = {key: value for key, value in net.items() if not own.match(key)}
    names = unet_to_ldm(encoder, NUMBERING)
    layers = 2 + len({key.split(".")[2] for key in net if key.startswith("controlnet_cond_embedding.blocks.")})
    for key in net.keys() - encoder.keys():
        kind = key.rpartition(".")[2]
        if match := re.match(r"controlnet_down_blocks\.(\d+)\.", key):
            names[key] = f"zero_convs.{match[1]}.0.{kind}"
        elif key.startswith("controlnet_mid_block."):
            names[key] = f"middle_block_out.0.{kind}"
        else:
            # Every second layer of the hint encoder is its activation.
            place = key.split(".")[1]
            number = 0 if place == "conv_in" else layers - 1 if place == "conv_out" else int(key.split(".")[2]) + 1
            names[key] = f"input_hint_block.{2 * number}.{kind}"
    return {f"control_model.{names[key]}": value for key, value in net.items()}


GUIDES: dict[str, Guide] = {
    "control-edges": Guide(part="control-edges", file="control-edges.safetensors", make=original_control),
    "control-edges-diffusers": Guide(part="control-edges", file="control-edges-diffusers/diffusion_pytorch_model.safetensors",
                                     make=dict, config=CONTROL_CONFIG),
    "image-prompt": Guide(part="image-prompt", file="image-prompt.safetensors", make=dict),
    "image-prompt-bin": Guide(part="image-prompt", file="image-prompt-bin.bin", make=dict, pickled=True),
}


def pickled(tensors: Tensors) -> bytes:
    """torch's file of {"image_proj": {...}, "ip_adapter": {...}}, as the authors of IP-Adapter publish theirs."""
    import torch

    content: dict[str, dict[str, torch.Tensor]] = {}
    for key in sorted(tensors):
        section, _, name = key.partition(".")
        content.setdefault(section, {})[name] = torch.from_numpy(np.array(tensors[key]))
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def control_from_part(part: Tensors, unet: Tensors, restore: Callable[..., Any], scale: str) -> Tensors:
    """The fp16 ControlNet of its stored part: int8 steps from the base U-Net's tensor of the same name, or from zero."""
    net: Tensors = {}
    for key, value in part.items():
        if key.endswith(scale):
            continue
        same = key in unet and unet[key].shape == value.shape
        net[key] = restore(value, part[key + scale], unet[key] if same else np.zeros(value.shape, np.float16)) if (
            key + scale in part) else value
    return net


def folder_of(path: Path, guide: Guide) -> Path:
    """What a reference to the guide means: its folder, or its file."""
    return path.parent if guide.config else path
