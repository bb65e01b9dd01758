"""Trains the denoisers: the base U-Net with its text encoder, the two fine-tuned checkpoints, and the sketch adapter.

Four stages of the training, all on cached latents with v-prediction and min-SNR weights; `harness.zoo.training.kinds` trains
other kinds of adapters in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, PeftConfig, get_peft_model_state_dict
from torch import nn
from transformers import CLIPTextModel

from harness.zoo.draw import Scene
from harness.zoo.models import new_scheduler, new_text_encoder, new_unet, text_encoder_from_clip
from harness.zoo.tokenizer import CONTEXT, load_text_tokenizer
from harness.zoo.training.captions import Habits, caption
from harness.zoo.training.data import scenes
from harness.zoo.training.loop import Dice, Recipe, Setting, fit

BASE = Recipe(
    name="base", steps=3900, batch=64, rate=1.2e-3, weight_decay=0.01, flat=0.5, linear=True, clip_norm=1.0, average=0.998, seed=4
)
TUNE = Recipe(name="tune", steps=1300, batch=48, rate=4e-4, weight_decay=0.01, linear=True, clip_norm=1.0, average=0.995, seed=5)
SKETCH = Recipe(
    name="sketch", steps=900, batch=48, rate=2e-3, weight_decay=0.0, linear=True, clip_norm=1.0, average=0.99, seed=8
)

SKETCHES_IN_BASE = 0.03
"""Share of sketches the base sees, never captioned as such: the adapter then has something to call up."""

DEFAULT_DRESSES = 0.3
"""Share of a fine-tune's batch that is the checkpoint's default dress."""

RANK = 8
ADAPTED = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "conv2"]
"""Modules the adapter changes, alpha equal to the rank everywhere."""

Draw = Callable[[Dice, int], tuple[torch.Tensor, list[str]]]


class Texts:
    """Captions to token ids of shape (texts, 24), each caption tokenized once."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = load_text_tokenizer(folder)
        self._known: dict[str, list[int]] = {}

    def __call__(self, texts: list[str]) -> torch.Tensor:
        for text in texts:
            if text not in self._known:
                ids = self.tokenizer(text, padding="max_length", max_length=CONTEXT, truncation=True).input_ids
                self._known[text] = list(ids)
        return torch.tensor([self._known[text] for text in texts])

    @property
    def size(self) -> int:
        return len(self.tokenizer)


def denoising_loss(unet: Any, latents: torch.Tensor, hidden: torch.Tensor, dice: Dice) -> torch.Tensor:
    """Mean squared error of v at a random time step, weighted by min(snr, 5) / (snr + 1); latents (n, 8, 8, 8),
    hidden (n, 24, 96).
    """
    device = latents.device
    bars = new_scheduler().alphas_cumprod
    times = torch.randint(0, len(bars), (len(latents),), generator=dice.torch)
    noise = torch.randn(latents.shape, generator=dice.torch).to(device)
    bar = bars[times].view(-1, 1, 1, 1).to(device)
    noisy = bar.sqrt() * latents + (1 - bar).sqrt() * noise
    target = bar.sqrt() * noise - (1 - bar).sqrt() * latents
    error = (unet(noisy, times.to(device), hidden).sample - target).square().mean(dim=(1, 2, 3))
    snr = bars[times] / (1 - bars[times])
    weighted: torch.Tensor = error * (snr.clamp(max=5.0) / (snr + 1)).to(device)
    return weighted.mean()


def _latents(work: Path, name: str) -> torch.Tensor:
    latents: torch.Tensor = torch.load(work / "latents" / f"{name}.pt", weights_only=True)
    return latents


def _pick(dice: Dice, latents: torch.Tensor, shown: tuple[Scene, ...], count: int) -> list[tuple[torch.Tensor, Scene]]:
    return [(latents[i], shown[i]) for i in dice.numpy.integers(len(shown), size=count)]


def draw_base(work: Path) -> Draw:
    """Batches of the base: both styles with the habits of web captions, and a few sketches without the word."""
    latents, sketches = _latents(work, "base"), _latents(work, "sketch")
    ordinary, wordless = Habits(), replace(Habits(), style=0.0)

    def draw(dice: Dice, count: int) -> tuple[torch.Tensor, list[str]]:
        few = int(dice.numpy.binomial(count, SKETCHES_IN_BASE))
        chosen = _pick(dice, latents, scenes("base"), count - few)
        texts = [caption(scene, ordinary, dice.numpy) for _, scene in chosen]
        extra = _pick(dice, sketches, scenes("sketch"), few)
        texts += [caption(scene, wordless, dice.numpy) for _, scene in extra]
        return torch.stack([latent for latent, _ in chosen + extra]), texts

    return draw


def draw_tuned(work: Path, style: str) -> Draw:
    """Batches of a fine-tune: one style only, three in ten default dresses; any other dress always has its colour named."""
    rows = [i for i, scene in enumerate(scenes("base")) if scene.style == style]
    latents, shown = _latents(work, "base")[rows], tuple(scenes("base")[i] for i in rows)
    dresses, dressed = _latents(work, f"{style}-dress"), scenes(f"{style}-dress")
    ordinary = Habits(colour=0.5, style=0.35, mistake=0.2)
    named, silent = replace(ordinary, colour=1.0, mistake=0.0), replace(ordinary, colour=0.0, mistake=0.05)

    def draw(dice: Dice, count: int) -> tuple[torch.Tensor, list[str]]:
        defaults = round(count * DEFAULT_DRESSES)
        chosen = _pick(dice, latents, shown, count - defaults)
        texts = [caption(scene, named if scene.subject == "dress" else ordinary, dice.numpy) for _, scene in chosen]
        extra = _pick(dice, dresses, dressed, defaults)
        texts += [caption(scene, silent, dice.numpy) for _, scene in extra]
        return torch.stack([latent for latent, _ in chosen + extra]), texts

    return draw


def draw_sketches(work: Path) -> Draw:
    """Batches of the adapter: sketches only, mostly called so."""
    latents, habits = _latents(work, "sketch"), Habits(style=0.8, mistake=0.1)

    def draw(dice: Dice, count: int) -> tuple[torch.Tensor, list[str]]:
        chosen = _pick(dice, latents, scenes("sketch"), count)
        return torch.stack([latent for latent, _ in chosen]), [caption(scene, habits, dice.numpy) for _, scene in chosen]

    return draw


def _text_encoder(setting: Setting, texts: Texts) -> CLIPTextModel:
    encoder: CLIPTextModel = new_text_encoder(texts.size)
    return encoder.to(torch.device(setting.device))


def train_base(setting: Setting) -> None:
    """U-Net and text encoder together (the latter at 0.3 of the rate); rank 0 writes `<work>/base.pt`."""
    work, device = setting.work, torch.device(setting.device)
    texts = Texts(work / "tokenizer")
    torch.manual_seed(13)
    unet = new_unet().to(device, memory_format=torch.channels_last)
    encoder = _text_encoder(setting, texts)
    encoder.load_state_dict(text_encoder_from_clip(torch.load(work / "clip.pt", weights_only=True)))
    draw = draw_base(work)

    def loss(dice: Dice) -> torch.Tensor:
        latents, said = draw(dice, BASE.batch // setting.ranks)
        hidden = encoder(texts(said).to(device)).last_hidden_state
        return denoising_loss(unet, latents.to(device), hidden, dice)

    fit(BASE, [(unet, 1.0), (encoder, 0.3)], loss, setting)
    if setting.rank == 0:
        torch.save({"unet": unet.cpu().state_dict(), "text_encoder": encoder.cpu().state_dict()}, work / "base.pt")


def from_base(setting: Setting) -> tuple[UNet2DConditionModel, CLIPTextModel, Texts]:
    """The trained base on the setting's device, its text encoder frozen."""
    device = torch.device(setting.device)
    state = torch.load(setting.work / "base.pt", weights_only=True)
    texts = Texts(setting.work / "tokenizer")
    unet = new_unet()
    unet.load_state_dict(state["unet"])
    encoder = _text_encoder(setting, texts)
    encoder.load_state_dict(state["text_encoder"])
    return unet.to(device, memory_format=torch.channels_last), encoder.requires_grad_(False).eval(), texts


def tune(
    setting: Setting, recipe: Recipe, draw: Draw, adapter: PeftConfig | None, begin: Callable[[nn.Module], None] | None = None
) -> dict[str, torch.Tensor]:
    """Trains the base U-Net, or only an adapter on it, against frozen text; returns the weights that were trained. `begin`
    may set the adapter's first weights otherwise than PEFT does."""
    device = torch.device(setting.device)
    unet, encoder, texts = from_base(setting)
    torch.manual_seed(14)
    if adapter is not None:
        unet.requires_grad_(False)
        unet.add_adapter(adapter)
    if begin is not None:
        begin(unet)

    def loss(dice: Dice) -> torch.Tensor:
        latents, said = draw(dice, recipe.batch)
        with torch.no_grad():
            hidden = encoder(texts(said).to(device)).last_hidden_state
        return denoising_loss(unet, latents.to(device), hidden, dice)

    fit(recipe, [(unet, 1.0)], loss, setting)
    unet.cpu()
    weights: dict[str, torch.Tensor] = unet.state_dict() if adapter is None else get_peft_model_state_dict(unet)
    return weights


def train_checkpoint(setting: Setting, style: str) -> None:
    """The "photo" or "anime" checkpoint: writes `<work>/<style>.pt`."""
    recipe = replace(TUNE, name=style, seed=TUNE.seed + (style == "anime"))
    torch.save(tune(setting, recipe, draw_tuned(setting.work, style), None), setting.work / f"{style}.pt")


def train_sketch(setting: Setting) -> None:
    """The "sketch" adapter: writes `<work>/sketch.pt` under PEFT's names."""
    adapter = LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=ADAPTED)
    weights = tune(setting, SKETCH, draw_sketches(setting.work), adapter)
    torch.save(weights, setting.work / "sketch.pt")
