"""Tiny random pipelines of every family that can be sampled, made and saved by diffusers itself: the other side of tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors.torch import save_file

from harness.weights import open_model, single_file_layout
from tests.tiny_pipelines.text_encoders import clip, t5
from tests.tiny_pipelines.tokenizers import clip_tokenizer, t5_tokenizer
from tests.weights.tiny_families import made, unet_config

FAMILIES = ("sd1", "sd2", "sdxl", "sd3", "flux")
SAMPLED = FAMILIES[:3]
CALLED = FAMILIES[3:]
_VAE = {"block_out_channels": [4, 12], "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2,
        "layers_per_block": 1, "norm_num_groups": 4}


def theirs(family: str, **scheduler: Any) -> Any:
    """A diffusers pipeline of the family with weights that make every part matter."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        pipe = _TRANSFORMERS[family]() if family in _TRANSFORMERS else _with_unet(family, scheduler)
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.eval().requires_grad_(False)
                for parameter in part.parameters():
                    # Wider than what modules start with, or texts would hardly change a picture; zeros leave zero.
                    parameter.copy_(torch.randn_like(parameter) * 0.3)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def folder_of(pipe: Any, folder: Path) -> Path:
    pipe.save_pretrained(folder)
    return folder


def reread(folder: Path, *absent: str) -> Any:
    """What diffusers itself makes of a folder. A tokenizer's padding token "!" is read as padding in prompts from then on."""
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True, use_safetensors=True,
                                                       **dict.fromkeys(absent))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def single_file_of(folder: Path, path: Path, metadata: dict[str, str] | None = None, **markers: torch.Tensor) -> Path:
    """The folder's model as one file in the layout of its family."""
    model = open_model(folder)
    tensors = made(model, single_file_layout(model))
    save_file({name: tensor.contiguous().clone() for name, tensor in (tensors | markers).items()}, path, metadata)
    return path


def _with_unet(family: str, scheduler: dict[str, Any]) -> Any:
    ddim = diffusers.DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False,
                                   set_alpha_to_one=False, steps_offset=1, **scheduler)
    vae = diffusers.AutoencoderKL(**_VAE, scaling_factor=0.13025 if family == "sdxl" else 0.18215)
    if family == "sdxl":
        unet = diffusers.UNet2DConditionModel(**unet_config(family, projection_class_embeddings_input_dim=46))
        return diffusers.StableDiffusionXLPipeline(
            vae=vae, text_encoder=clip(12, 3), text_encoder_2=clip(20, 3, projected=True), tokenizer=clip_tokenizer(),
            tokenizer_2=clip_tokenizer("!"), unet=unet, scheduler=ddim, add_watermarker=False)
    return diffusers.StableDiffusionPipeline(
        vae=vae, text_encoder=clip(12, 3), tokenizer=clip_tokenizer("!" if family == "sd2" else "<|endoftext|>"),
        unet=diffusers.UNet2DConditionModel(**unet_config(family)), scheduler=ddim, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False)


def _sd3() -> Any:
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=40, caption_projection_dim=16, pooled_projection_dim=14 + 22, pos_embed_max_size=16)
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=diffusers.AutoencoderKL(**_VAE, scaling_factor=1.5305, shift_factor=0.0609), text_encoder=clip(12, 3, projected=True),
        text_encoder_2=clip(20, 3, projected=True), text_encoder_3=t5(40), tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer("!"), tokenizer_3=t5_tokenizer())


def _flux(guidance: bool = True) -> Any:
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, pooled_projection_dim=12, axes_dims_rope=(4, 4, 8), guidance_embeds=guidance)
    return diffusers.FluxPipeline(
        transformer=transformer, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=diffusers.AutoencoderKL(**_VAE, scaling_factor=0.3611, shift_factor=0.1159), text_encoder=clip(12, 2),
        text_encoder_2=t5(24), tokenizer=clip_tokenizer(), tokenizer_2=t5_tokenizer())


def refiner() -> Any:
    """A pipeline of the family of Stable Diffusion XL's refiner: the larger text encoder alone, and an aesthetic score."""
    base = theirs("sdxl")
    unet = _drawn(unet_config("sdxl_refiner", cross_attention_dim=20, projection_class_embeddings_input_dim=22 + 5 * 4))
    pipe = diffusers.StableDiffusionXLImg2ImgPipeline(
        vae=base.vae, text_encoder=None, tokenizer=None, text_encoder_2=base.text_encoder_2, tokenizer_2=base.tokenizer_2,
        unet=unet, scheduler=base.scheduler, requires_aesthetics_score=True, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def shallow() -> Any:
    """As `theirs` of Stable Diffusion 1, with one layer in each block, for what is done with every layer."""
    pipe = theirs("sd1")
    pipe.register_modules(unet=_drawn(unet_config("sd1", layers_per_block=1)))
    return pipe


def _drawn(config: dict[str, Any]) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        unet = diffusers.UNet2DConditionModel(**config).eval().requires_grad_(False)
        for parameter in unet.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return unet


_TRANSFORMERS = {"sd3": _sd3, "flux": _flux, "flux-schnell": lambda: _flux(guidance=False)}
