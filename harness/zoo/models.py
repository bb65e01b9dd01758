"""The architectures of the zoo: Stable Diffusion 1's four networks and an open_clip model, each a few thousand times smaller.

Importing it imports torch and diffusers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from harness.zoo.picture_size import SIZE
from harness.zoo.tokenizer import CONTEXT

LATENT_CHANNELS = 8
LATENT_SIZE = SIZE // 8
TEXT_WIDTH = 96
PIXEL_MEAN = (0.5, 0.5, 0.5)
PIXEL_STD = (0.5, 0.5, 0.5)
"""What the tiny CLIP expects: pixels in [-1, 1]."""


def new_vae() -> AutoencoderKL:
    """Eight-fold smaller, eight latent channels: a 64 x 64 picture becomes (8, 8, 8); pixels in [-1, 1]."""
    return AutoencoderKL(
        sample_size=SIZE,
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )


def new_unet() -> UNet2DConditionModel:
    """Two levels in Stable Diffusion 1's layout: attention on the 8 x 8 level and in the middle, 1 x 1 convolutions
    as projections.
    """
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # as in Stable Diffusion 1, diffusers reads this as the NUMBER of heads
        norm_num_groups=16,
    )


def new_control_net() -> ControlNetModel:
    """The encoder of `new_unet` without its attention, and a hint encoder of eight convolutions: a control picture of 64 x 64
    pixels becomes (64, 8, 8).
    """
    return ControlNetModel(
        in_channels=LATENT_CHANNELS,
        block_out_channels=(64, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        mid_block_type="UNetMidBlock2D",
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
        conditioning_embedding_out_channels=(8, 16, 32, 32),
    )


def new_text_encoder(vocabulary: int) -> CLIPTextModel:
    """Three layers of width 96; its start and end ids are the last two of the vocabulary."""
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        hidden_act="gelu",
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
        projection_dim=TEXT_WIDTH,
    )
    return CLIPTextModel(config)


def new_scheduler() -> DDIMScheduler:
    """Stable Diffusion 1's noise schedule with v-prediction, with which a small network learns colours better than with noise."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def clip_config(vocabulary: int) -> dict[str, Any]:
    """The open_clip model configuration: ViT of 4 layers on 8 x 8 patches, text tower of 3 layers."""
    vision = {"image_size": SIZE, "patch_size": 8, "width": 96, "layers": 4, "head_width": 24, "mlp_ratio": 4.0}
    text = {"context_length": CONTEXT, "vocab_size": vocabulary, "width": TEXT_WIDTH, "heads": 4, "layers": 3}
    return {"embed_dim": 96, "vision_cfg": vision, "text_cfg": text}


def new_clip(vocabulary: int) -> nn.Module:
    """An untrained open_clip CLIP from `clip_config`."""
    import open_clip

    model: nn.Module = open_clip.CLIP(**clip_config(vocabulary))
    return model


def text_encoder_from_clip(clip: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """open_clip's text tower under transformers' names (no "text_model." prefix): attn.in_proj is split by rows into q, k, v."""
    renamed = {
        "embeddings.token_embedding.weight": clip["token_embedding.weight"],
        "embeddings.position_embedding.weight": clip["positional_embedding"],
        "final_layer_norm.weight": clip["ln_final.weight"],
        "final_layer_norm.bias": clip["ln_final.bias"],
    }
    parts = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    parts["attn.out_proj"] = "self_attn.out_proj"
    layers = 1 + max(int(key.split(".")[2]) for key in clip if key.startswith("transformer.resblocks."))
    for i in range(layers):
        source, target = f"transformer.resblocks.{i}.", f"encoder.layers.{i}."
        for kind in ("weight", "bias"):
            for old, new in parts.items():
                renamed[f"{target}{new}.{kind}"] = clip[f"{source}{old}.{kind}"]
            for name, rows in zip("qkv", clip[f"{source}attn.in_proj_{kind}"].chunk(3), strict=True):
                renamed[f"{target}self_attn.{name}_proj.{kind}"] = rows.clone()
    return renamed


def write_configs(folder: Path, vocabulary: int, scaling_factor: float) -> None:
    """Writes the diffusers configuration files of the family; `scaling_factor` is 1 / standard deviation of the latents."""
    vae = new_vae()
    vae.register_to_config(scaling_factor=scaling_factor)
    vae.save_config(folder / "vae")
    new_unet().save_config(folder / "unet")
    new_scheduler().save_config(folder / "scheduler")
    new_text_encoder(vocabulary).config.save_pretrained(folder / "text_encoder")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
