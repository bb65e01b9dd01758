"""Trains the autoencoder: first on 32 x 32 crops, four times cheaper, then on whole pictures for the statistics of
norms and attention.

A stage of the training; `encode_sets` gives the latents that the U-Net stages learn from.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from harness.zoo import SIZE
from harness.zoo.models import new_vae
from harness.zoo.training.data import Pictures, load_pictures
from harness.zoo.training.loop import Dice, Recipe, Setting, fit

CROPS = Recipe(name="vae-crops", steps=6000, batch=16, rate=2e-3, flat=0.5, seed=1)
WHOLE = Recipe(name="vae", steps=1500, batch=16, rate=1.2e-3, seed=2)


def to_tensor(pixels: Pictures) -> torch.Tensor:
    """uint8 (n, h, w, 3) to float32 (n, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def _gradients(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L1 of the pixels, plus half the L1 of their differences (edges), plus half the L1 of 4 x 4 means (colour)."""
    edges = sum(functional.l1_loss(a, b) for a, b in zip(_gradients(output), _gradients(target), strict=True))
    colour = functional.l1_loss(functional.avg_pool2d(output, 4), functional.avg_pool2d(target, 4))
    return functional.l1_loss(output, target) + 0.5 * edges + 0.5 * colour


def _crop(pixels: Pictures, dice: Dice, batch: int, side: int) -> torch.Tensor:
    """A random batch of random side x side crops, as a tensor in [-1, 1]."""
    rows = dice.numpy.integers(len(pixels), size=batch)
    corners = dice.numpy.integers(SIZE - side + 1, size=(batch, 2))
    return to_tensor(np.stack([pixels[i, y : y + side, x : x + side] for i, (y, x) in zip(rows, corners, strict=True)]))


def train_vae(setting: Setting) -> None:
    """Both passes, then `<work>/vae.pt`: the float32 weights and the scaling factor, 1 / standard deviation of the latents."""
    work, device = setting.work, torch.device(setting.device)
    torch.manual_seed(11)
    vae = new_vae().to(device)
    vae.to(memory_format=torch.channels_last)
    names = ("base", "sketch", "photo-dress", "anime-dress")
    pixels = np.concatenate([load_pictures(work, name) for name in names])
    for recipe, side in ((CROPS, 32), (WHOLE, SIZE)):

        def loss(dice: Dice, recipe: Recipe = recipe, side: int = side) -> torch.Tensor:
            target = _crop(pixels, dice, recipe.batch, side).to(device)
            with torch.autocast(device.type, torch.bfloat16):
                posterior = vae.encode(target).latent_dist
                noise = torch.randn(posterior.mean.shape, generator=dice.torch).to(device)
                output = vae.decode(posterior.mean + posterior.std * noise).sample.float()
            divergence = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1.0 - posterior.logvar.float()).mean()
            total: torch.Tensor = reconstruction_loss(output, target) + 1e-4 * divergence
            return total

        fit(recipe, [(vae, 1.0)], loss, setting)
    sample = encode(vae, pixels[:: len(pixels) // 2000])
    state = {"weights": vae.cpu().state_dict(), "scaling_factor": 1.0 / float(sample.std())}
    torch.save(state, work / "vae.pt")


@torch.no_grad()
def encode(vae: AutoencoderKL, pixels: Pictures) -> torch.Tensor:
    """Means of the posterior, unscaled: float32 of shape (n, 8, 8, 8) on the CPU."""
    parts = [vae.encode(to_tensor(pixels[i : i + 16]).to(vae.device)).latent_dist.mean.cpu() for i in range(0, len(pixels), 16)]
    return torch.cat(parts)


def load_vae(work: Path) -> tuple[AutoencoderKL, float]:
    """The trained autoencoder and its scaling factor."""
    state = torch.load(work / "vae.pt", weights_only=True)
    vae = new_vae()
    vae.load_state_dict(state["weights"])
    return vae.eval(), float(state["scaling_factor"])


def encode_sets(setting: Setting) -> None:
    """Writes the scaled latents of every training set to `<work>/latents/<set>.pt`, float32 of shape (n, 8, 8, 8)."""
    work = setting.work
    vae, scale = load_vae(work)
    vae.to(torch.device(setting.device), memory_format=torch.channels_last)
    (work / "latents").mkdir(exist_ok=True)
    for name in ("base", "sketch", "photo-dress", "anime-dress"):
        torch.save(encode(vae, load_pictures(work, name)) * scale, work / "latents" / f"{name}.pt")
