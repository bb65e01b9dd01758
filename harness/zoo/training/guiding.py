"""What the networks that are guided by a picture learn from: some drawn pictures with their latents, edges and CLIP embeddings.

They are drawn again, so that these networks can be trained without training everything before them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from harness.control.edge_map import edges_of
from harness.zoo import load_clip, store
from harness.zoo.draw import Scene, render
from harness.zoo.models import new_scheduler, new_vae
from harness.zoo.training.captions import Habits, caption
from harness.zoo.training.data import Pictures, scenes
from harness.zoo.training.loop import Dice, Setting
from harness.zoo.training.packed import fill_in_base, floats
from harness.zoo.training.vae import encode, to_tensor

COUNT = 3600
"""Pictures of the base's set that are enough: the U-Net itself is not trained again."""
FIRST_TIMESTEP = 200
"""Layout and colour are decided at high noise; below this step of 1000 a guide has nothing to say."""


def guiding_scenes() -> tuple[Scene, ...]:
    """The scenes of the pictures, in order."""
    return scenes("base")[:COUNT]


def fill_in_guiding(setting: Setting) -> None:
    """Writes the base and `<work>/guiding/{latents,edges,embeddings}.pt` where they are missing: scaled latents (n, 8, 8, 8),
    edges (n, 1, 64, 64) of 0 and 1 as uint8, and CLIP embeddings (n, 96) that are not normalised."""
    fill_in_base(setting)
    folder = setting.work / "guiding"
    folder.mkdir(exist_ok=True)
    missing = [name for name in MAKERS if not (folder / f"{name}.pt").exists()]
    if missing:
        pixels = np.stack([render(scene) for scene in guiding_scenes()])
        for name in missing:
            part = folder / f"{name}.{os.getpid()}.part"
            torch.save(MAKERS[name](pixels), part)
            part.replace(folder / f"{name}.pt")


def _latents(pixels: Pictures) -> torch.Tensor:
    settings = json.loads((store.PARTS / "config" / "vae" / "config.json").read_text(encoding="utf-8"))
    vae = new_vae()
    vae.load_state_dict(floats("vae"))
    latents: torch.Tensor = encode(vae.eval(), pixels) * settings["scaling_factor"]
    return latents


def _edges(pixels: Pictures) -> torch.Tensor:
    return torch.from_numpy(np.stack([edges_of(picture) for picture in pixels])[:, None].astype(np.uint8))


@torch.no_grad()
def _embeddings(pixels: Pictures) -> torch.Tensor:
    model = load_clip()[0]
    return torch.cat([model.encode_image(to_tensor(pixels[i: i + 64])) for i in range(0, len(pixels), 64)])


MAKERS: dict[str, Callable[[Pictures], torch.Tensor]] = {"latents": _latents, "edges": _edges, "embeddings": _embeddings}


def load(work: Path, name: str) -> torch.Tensor:
    """One of the tensors that `fill_in_guiding` wrote."""
    tensor: torch.Tensor = torch.load(work / "guiding" / f"{name}.pt", weights_only=True)
    return tensor


def drawn_rows(dice: Dice, count: int, habits: Habits) -> tuple[torch.Tensor, list[str]]:
    """Row numbers of a random batch, and a caption for each."""
    shown = guiding_scenes()
    rows = dice.numpy.integers(len(shown), size=count)
    return torch.from_numpy(rows), [caption(shown[row], habits, dice.numpy) for row in rows]


def noised(latents: torch.Tensor, dice: Dice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noisy latents, their time steps (n,) from FIRST_TIMESTEP on, and the v that is to be predicted."""
    bars = new_scheduler().alphas_cumprod
    times = torch.randint(FIRST_TIMESTEP, len(bars), (len(latents),), generator=dice.torch)
    noise = torch.randn(latents.shape, generator=dice.torch)
    bar = bars[times].view(-1, 1, 1, 1)
    return bar.sqrt() * latents + (1 - bar).sqrt() * noise, times, bar.sqrt() * noise - (1 - bar).sqrt() * latents
