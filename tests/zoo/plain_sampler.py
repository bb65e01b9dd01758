"""A plain sampler for the zoo, independent of the harness: U-Nets by name or blend, pictures by prompt and seed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from torch import nn
from transformers import CLIPTextModel

from harness.zoo import models, resolve, store
from harness.zoo.tokenizer import CONTEXT, add_word, load_text_tokenizer

Pictures = NDArray[np.uint8]
Weights = dict[str, torch.Tensor]

BATCH = 48


@dataclass(frozen=True, kw_only=True)
class Studio:
    """The parts all checkpoints share, in fp32 on the CPU."""

    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: Any
    scheduler: DPMSolverMultistepScheduler


def open_studio() -> Studio:
    """Loads the shared parts from the zoo's stored files."""
    folder = resolve("zoo:config")
    tokenizer = load_text_tokenizer(folder / "tokenizer")
    vae = AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae"))
    vae.load_state_dict(_tensors("vae"))
    encoder = models.new_text_encoder(len(tokenizer))
    encoder.load_state_dict(_tensors("text_encoder"))
    scheduler = DPMSolverMultistepScheduler.from_pretrained(folder / "scheduler", algorithm_type="dpmsolver++")
    return Studio(vae=vae.eval(), text_encoder=encoder.eval(), tokenizer=tokenizer, scheduler=scheduler)


def _tensors(part: str) -> Weights:
    stored = store.load_tensors(store.PARTS / f"{part}.safetensors")
    return {key: torch.from_numpy(value).float() for key, value in stored.items()}


def unet_weights(name: str) -> Weights:
    """The fp32 U-Net weights of "base", "photo" or "anime"."""
    return {key: torch.from_numpy(value).float() for key, value in store.unet_tensors(name).items()}


def blend(first: Weights, second: Weights, alpha: float) -> Weights:
    """(1 - alpha) * first + alpha * second, tensor by tensor."""
    return {key: torch.lerp(value, second[key], alpha) for key, value in first.items()}


def with_adapter(weights: Weights, scale: float, part: str = "sketch") -> Weights:
    """weights + scale * what the adapter "sketch" (the LoRA), "loha", "lokr" or "dora" adds to them at strength 1."""
    adapter, result = _tensors(part), dict(weights)
    modules: dict[str, Weights] = {}
    for key, value in adapter.items():
        path, role = key.removesuffix(".weight").rsplit(".", 1)
        modules.setdefault(path, {})[role] = value
    for path, tensors in modules.items():
        base = weights[f"{path}.weight"]
        result[f"{path}.weight"] = base + scale * _added(tensors, base)
    return result


def _added(tensors: Weights, base: torch.Tensor) -> torch.Tensor:
    """What one module's tensors add to its weight (out, in[, kh, kw]): up @ down, or the elementwise product of LoHa's two
    products, or the Kronecker product of LoKr's halves, or DoRA's new rows of given length less the old ones.
    """
    if "lokr_w1" in tensors:
        return torch.einsum("ac,bd...->abcd...", tensors["lokr_w1"], tensors["lokr_w2"]).reshape(base.shape)
    if "hada_w1_a" in tensors:
        first = tensors["hada_w1_a"] @ tensors["hada_w1_b"]
        return (first * (tensors["hada_w2_a"] @ tensors["hada_w2_b"])).reshape(base.shape)
    added: torch.Tensor = (tensors["lora_B"].flatten(1) @ tensors["lora_A"].flatten(1)).reshape(base.shape)
    if "lora_magnitude_vector" not in tensors:
        return added
    moved = (base + added).flatten(1)
    moved *= tensors["lora_magnitude_vector"].reshape(-1, 1) / moved.norm(dim=1, keepdim=True)
    return moved.reshape(base.shape) - base


def with_word(studio: Studio) -> tuple[Studio, str]:
    """A studio whose text encoder knows the zoo's textual inversion, and what to write for its word in a prompt."""
    ((word, vectors),) = _tensors("word").items()
    tokenizer = load_text_tokenizer(resolve("zoo:config") / "tokenizer")
    said = add_word(tokenizer, word, len(vectors))
    encoder = copy.deepcopy(studio.text_encoder)
    rows = torch.cat([encoder.embeddings.token_embedding.weight.detach(), vectors])
    encoder.embeddings.token_embedding = nn.Embedding(len(rows), rows.shape[1], _weight=rows)
    return replace(studio, text_encoder=encoder, tokenizer=tokenizer), said


def unet_of(weights: Weights) -> UNet2DConditionModel:
    """A U-Net in evaluation mode with the given weights."""
    unet = models.new_unet()
    unet.load_state_dict(weights)
    return unet.eval().requires_grad_(False)


@torch.no_grad()
def paint(
    studio: Studio, unet: UNet2DConditionModel, prompts: Sequence[str], seeds: Sequence[int], guidance: float, steps: int = 15
) -> Pictures:
    """One picture per (prompt, seed) pair, uint8 (n, 64, 64, 3), by DPM-Solver++ 2M with classifier-free guidance.

    The noise of a seed does not depend on the batch. A guidance of 1 leaves the empty prompt out.
    """
    done = []
    for start in range(0, len(prompts), BATCH):
        said, chosen = list(prompts[start : start + BATCH]), seeds[start : start + BATCH]
        hidden = _hidden(studio, said)
        empty = _hidden(studio, [""]).expand_as(hidden)
        shape = (models.LATENT_CHANNELS, models.LATENT_SIZE, models.LATENT_SIZE)
        latents = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in chosen])
        studio.scheduler.set_timesteps(steps)
        for time in studio.scheduler.timesteps:
            guess = unet(latents, time, hidden).sample
            if guidance != 1.0:
                free = unet(latents, time, empty).sample
                guess = free + guidance * (guess - free)
            latents = studio.scheduler.step(guess, time, latents).prev_sample
        pixels = studio.vae.decode(latents / studio.vae.config.scaling_factor).sample
        done.append(((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(done)


def _hidden(studio: Studio, prompts: list[str]) -> torch.Tensor:
    """Last hidden states of the text encoder, (n, 24, 96)."""
    ids = studio.tokenizer(prompts, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt").input_ids
    hidden: torch.Tensor = studio.text_encoder(ids).last_hidden_state
    return hidden
