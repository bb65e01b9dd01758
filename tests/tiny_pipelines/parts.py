"""Tiny decoders and denoisers that several tiny pipelines are built from."""

from __future__ import annotations

from typing import Any

import diffusers


def kl_vae(channels: int = 4, levels: int = 2, **config: Any) -> diffusers.AutoencoderKL:
    """Of two levels: 16x16 numbers for 32x32 pixels; pipelines that take eight pixels for granted need four."""
    return diffusers.AutoencoderKL(**{
        "block_out_channels": [4, 12, 12, 12][:levels], "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels, "layers_per_block": 1, "norm_num_groups": 4,
        "latent_channels": channels, **config})


def dc_vae() -> diffusers.AutoencoderDC:
    """The deeply compressing one of Sana."""
    return diffusers.AutoencoderDC(
        latent_channels=4, attention_head_dim=2, encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8), encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1), downsample_block_type="conv",
        upsample_block_type="interpolate", scaling_factor=0.41407)


def causal_vae(kind: Any, width: int, channels: int = 4, levels: int = 2, **config: Any) -> Any:
    """The ones that also know films: of Wan and Qwen-Image."""
    return kind(**{"base_dim": width, "z_dim": channels, "dim_mult": [1] * (levels - 1) + [2], "num_res_blocks": 1,
                   "temperal_downsample": [False] * (levels - 1), "latents_mean": [0.1] * channels,
                   "latents_std": [0.9] * channels, **config})


def flux2_vae() -> diffusers.AutoencoderKLFlux2:
    return diffusers.AutoencoderKLFlux2(
        block_out_channels=(4, 8), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1, latent_channels=4, norm_num_groups=4)


def unet(text_width: int, **config: Any) -> diffusers.UNet2DConditionModel:
    return diffusers.UNet2DConditionModel(**{
        "block_out_channels": (8, 16), "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "layers_per_block": 1, "cross_attention_dim": text_width,
        "attention_head_dim": 2, "norm_num_groups": 4, "sample_size": 16, **config})


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


def qwen21_transformer() -> diffusers.QwenImage21Transformer2DModel:
    return diffusers.QwenImage21Transformer2DModel(
        in_channels=4, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2, context_in_dim=16,
        axes_dims_rope=(8, 4, 4))


def z_image_transformer() -> diffusers.ZImageTransformer2DModel:
    return diffusers.ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16, axes_dims=[8, 4, 4],
        axes_lens=[1024, 32, 32])


def chroma_transformer() -> diffusers.ChromaTransformer2DModel:
    return diffusers.ChromaTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=16,
        axes_dims_rope=(4, 4, 8), approximator_hidden_dim=16, approximator_layers=1, approximator_num_channels=16)


def lumina2_transformer() -> diffusers.Lumina2Transformer2DModel:
    return diffusers.Lumina2Transformer2DModel(
        sample_size=16, in_channels=4, hidden_size=24, num_layers=2, num_refiner_layers=1, num_attention_heads=3, num_kv_heads=1,
        multiple_of=16, axes_dim_rope=(4, 2, 2), cap_feat_dim=8)


def auraflow_transformer() -> diffusers.AuraFlowTransformer2DModel:
    return diffusers.AuraFlowTransformer2DModel(
        sample_size=16, num_mmdit_layers=1, num_single_dit_layers=1, attention_head_dim=8, num_attention_heads=3,
        joint_attention_dim=16, caption_projection_dim=24, pos_embed_max_size=64)


def flux_transformer(guided: bool = True, given: int = 16) -> diffusers.FluxTransformer2DModel:
    """`given`: the numbers of a patch that are put in; more than come out where a picture is given beside the noise."""
    return diffusers.FluxTransformer2DModel(
        in_channels=given, out_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, pooled_projection_dim=12, axes_dims_rope=(4, 4, 8), guidance_embeds=guided)


def flux2_transformer(text_width: int, guided: bool) -> diffusers.Flux2Transformer2DModel:
    return diffusers.Flux2Transformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=text_width, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=guided)


def hidream_transformer() -> diffusers.HiDreamImageTransformer2DModel:
    """Patches of 8x8, because its pipeline makes 128x128 numbers whatever size is asked for."""
    return diffusers.HiDreamImageTransformer2DModel(
        patch_size=8, in_channels=4, out_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8,
        num_attention_heads=2, caption_channels=[16, 16], text_emb_dim=14 + 22, axes_dims_rope=(4, 2, 2),
        max_resolution=(128, 128), llama_layers=[0, 1])


def sd3_transformer() -> diffusers.SD3Transformer2DModel:
    return diffusers.SD3Transformer2DModel(
        sample_size=16, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=40, caption_projection_dim=16, pooled_projection_dim=14 + 22, pos_embed_max_size=16)


def wan_transformer() -> diffusers.WanTransformer3DModel:
    return diffusers.WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16, freq_dim=16, ffn_dim=16,
        num_layers=1, rope_max_seq_len=32)
