"""The tiny pipelines of the families that people know by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import diffusers
from diffusers import FlowMatchEulerDiscreteScheduler as FlowEuler

from tests.tiny_pipelines import text_encoders as encoders
from tests.tiny_pipelines import tokenizers
from tests.tiny_pipelines.row import Tiny

_CALL = {"height": 32, "width": 32, "num_inference_steps": 2}


def kl_vae(channels: int = 4, **config: Any) -> diffusers.AutoencoderKL:
    """Of two blocks: 16x16 numbers for 32x32 pixels."""
    return diffusers.AutoencoderKL(**{
        "block_out_channels": [4, 12], "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2,
        "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": channels, **config})


def dc_vae() -> diffusers.AutoencoderDC:
    """The deeply compressing one of Sana."""
    return diffusers.AutoencoderDC(
        latent_channels=4, attention_head_dim=2, encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8), encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1), downsample_block_type="conv",
        upsample_block_type="interpolate", scaling_factor=0.41407)


def causal_vae(kind: Any, width: int, channels: int = 4, **config: Any) -> Any:
    """The ones that also know films: of Wan and Qwen-Image."""
    return kind(base_dim=width, z_dim=channels, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[False],
                latents_mean=[0.1] * channels, latents_std=[0.9] * channels, **config)


def sana_transformer(**config: Any) -> diffusers.SanaTransformer2DModel:
    return diffusers.SanaTransformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=4,
        num_cross_attention_heads=2, cross_attention_head_dim=4, cross_attention_dim=8, caption_channels=8, sample_size=32,
        **config)


def pixart_transformer() -> diffusers.PixArtTransformer2DModel:
    return diffusers.PixArtTransformer2DModel(
        sample_size=16, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=3, caption_channels=16,
        in_channels=4, cross_attention_dim=24, out_channels=8, num_embeds_ada_norm=1000, use_additional_conditions=False)


def qwen_transformer() -> diffusers.QwenImageTransformer2DModel:
    return diffusers.QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(8, 4, 4))


_SANA = {"transformer": sana_transformer, "vae": dc_vae, "text_encoder": partial(encoders.gemma2, 8),
         "tokenizer": tokenizers.gemma_tokenizer}
_PIXART = {"transformer": pixart_transformer, "vae": kl_vae, "text_encoder": partial(encoders.t5, 16),
           "tokenizer": tokenizers.t5_tokenizer, "scheduler": diffusers.DPMSolverMultistepScheduler}

NAMED: Mapping[str, Tiny] = {
    "QwenImagePipeline": Tiny(parts={
        "transformer": qwen_transformer, "vae": partial(causal_vae, diffusers.AutoencoderKLQwenImage, 8),
        "text_encoder": partial(encoders.qwen2_vl, 16), "tokenizer": tokenizers.qwen_tokenizer,
        "scheduler": partial(FlowEuler, use_dynamic_shifting=True)}),
    "SanaPipeline": Tiny(
        parts=_SANA | {"scheduler": partial(diffusers.DPMSolverMultistepScheduler, prediction_type="flow_prediction",
                                            use_flow_sigmas=True, flow_shift=3.0)},
        call=_CALL | {"use_resolution_binning": False}),
    "PixArtAlphaPipeline": Tiny(parts=_PIXART, call=_CALL | {"use_resolution_binning": False}),
    "PixArtSigmaPipeline": Tiny(parts=_PIXART, call=_CALL | {"use_resolution_binning": False}),
}
