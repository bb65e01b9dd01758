"""Fills the working folder from the packed zoo (tokenizer, base, latents of the sketches), so that an adapter can be trained
without training everything before it. Files of earlier stages are not overwritten."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.zoo import store
from harness.zoo.draw import render
from harness.zoo.models import new_vae
from harness.zoo.training.data import scenes
from harness.zoo.training.loop import Setting
from harness.zoo.training.vae import encode

FIRST = "sketch"
"""The set of pictures that every adapter learns from."""


def fill_in(setting: Setting) -> None:
    """Writes `<work>/tokenizer`, `<work>/base.pt` and `<work>/latents/sketch.pt` where they are missing; the base is then
    the fp16 one of the repository."""
    fill_in_base(setting)
    work = setting.work
    if not (work / "latents" / f"{FIRST}.pt").exists():
        (work / "latents").mkdir(exist_ok=True)
        _save(_latents(setting), work / "latents" / f"{FIRST}.pt")


def fill_in_base(setting: Setting) -> None:
    """Writes `<work>/tokenizer` and `<work>/base.pt` where they are missing."""
    work = setting.work
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "tokenizer").exists():
        shutil.copytree(store.PARTS / "config" / "tokenizer", work / "tokenizer", dirs_exist_ok=True)
    if not (work / "base.pt").exists():
        _save({"unet": floats("unet"), "text_encoder": floats("text_encoder")}, work / "base.pt")


def _latents(setting: Setting) -> torch.Tensor:
    """Scaled latents of the set, drawn again: float32 of shape (n, 8, 8, 8)."""
    settings = json.loads((store.PARTS / "config" / "vae" / "config.json").read_text(encoding="utf-8"))
    vae = new_vae()
    vae.load_state_dict(floats("vae"))
    vae.to(torch.device(setting.device), memory_format=torch.channels_last).eval()
    latents: torch.Tensor = encode(vae, np.stack([render(scene) for scene in scenes(FIRST)])) * settings["scaling_factor"]
    return latents


def floats(part: str) -> dict[str, torch.Tensor]:
    """A stored part of the zoo in float32."""
    stored = store.load_tensors(store.PARTS / f"{part}.safetensors")
    return {key: torch.from_numpy(value).float() for key, value in stored.items()}


def _save(content: Any, path: Path) -> None:
    """Appears whole: two stages that start together may both write it, with the same content."""
    part = path.with_suffix(f".{os.getpid()}.part")
    torch.save(content, part)
    part.replace(path)
