"""Tiny denoisers and decoders of the pipelines in `others.py`."""

from __future__ import annotations

from typing import Any

import diffusers

_FLUX: dict[str, Any] = {"num_layers": 1, "num_single_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2,
                         "axes_dims_rope": (2, 2, 4)}


def wan_vae_16() -> diffusers.AutoencoderKLWan:
    """Of Wan 2.2: three blocks that halve, over patches of 2x2 pixels."""
    return diffusers.AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True], in_channels=12,
        out_channels=12, patch_size=2, scale_factor_spatial=16, latents_mean=[0.1] * 4, latents_std=[0.9] * 4)


def hunyuan_vae() -> diffusers.AutoencoderKLHunyuanImage:
    """Its norms have 32 groups whatever is asked for."""
    return diffusers.AutoencoderKLHunyuanImage(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32, 32), layers_per_block=1, sample_size=32,
        spatial_compression_ratio=2, scaling_factor=0.75289)


def tiny_vae() -> diffusers.AutoencoderTiny:
    return diffusers.AutoencoderTiny(encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), latent_channels=4,
                                     num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1))


def bria_transformer() -> diffusers.BriaTransformer2DModel:
    return diffusers.BriaTransformer2DModel(
        patch_size=1, in_channels=16, **_FLUX | {"joint_attention_dim": 32, "axes_dims_rope": [0, 4, 4]})


def bria_fibo_transformer() -> diffusers.BriaFiboTransformer2DModel:
    return diffusers.BriaFiboTransformer2DModel(
        patch_size=1, in_channels=4, text_encoder_dim=2,
        **_FLUX | {"joint_attention_dim": 4, "axes_dims_rope": [0, 4, 4]})


def bria_fibo2_transformer() -> diffusers.BriaFibo2Transformer2DModel:
    return diffusers.BriaFibo2Transformer2DModel(
        in_channels=4, dim=32, n_layers=5, n_refiner_layers=1, n_heads=2, cap_feat_dim=24, injection_layer_ids=(0, 1, 2, 3, 4),
        perceiver_num_layers=1, min_num_gist_tokens=4, max_num_gist_tokens=8, gist_step=2, gist_min_text_len=8,
        gist_max_text_len=64, axes_dims=(8, 4, 4), axes_lens=(1024, 32, 32))


def cogview3_transformer() -> diffusers.CogView3PlusTransformer2DModel:
    return diffusers.CogView3PlusTransformer2DModel(
        patch_size=2, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2, text_embed_dim=32,
        time_embed_dim=8, condition_dim=2, pos_embed_max_size=32, sample_size=16)


def cogview4_transformer() -> diffusers.CogView4Transformer2DModel:
    return diffusers.CogView4Transformer2DModel(
        patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2, text_embed_dim=16,
        time_embed_dim=8, condition_dim=4)


def dream_lite_unet() -> diffusers.DreamLiteUNetModel:
    return diffusers.DreamLiteUNetModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=16,
        down_block_types=("DreamLiteCrossAttnNoSelfAttnDownBlock2D", "DreamLiteCrossAttnDownBlock2D"), attention_head_dim=2,
        up_block_types=("DreamLiteCrossAttnUpBlock2D", "DreamLiteUpBlock2D"), norm_num_groups=4, transformer_layers_per_block=1)


def ernie_transformer() -> diffusers.ErnieImageTransformer2DModel:
    return diffusers.ErnieImageTransformer2DModel(
        hidden_size=16, num_attention_heads=2, num_layers=2, ffn_hidden_size=16, in_channels=16, out_channels=16, text_in_dim=16,
        rope_axes_dim=(4, 2, 2))


def glm_transformer() -> diffusers.GlmImageTransformer2DModel:
    return diffusers.GlmImageTransformer2DModel(
        patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=2, text_embed_dim=16,
        time_embed_dim=16, condition_dim=8, prior_vq_quantizer_codebook_size=16)


def hunyuan_dit() -> diffusers.HunyuanDiT2DModel:
    return diffusers.HunyuanDiT2DModel(
        sample_size=16, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=2, in_channels=4, hidden_size=16,
        cross_attention_dim=16, cross_attention_dim_t5=32, pooled_projection_dim=16, text_len=77, text_len_t5=256,
        activation_fn="gelu-approximate")


def hunyuan_image_transformer() -> diffusers.HunyuanImageTransformer2DModel:
    """Without the part for quoted words, whose inner width of 2,048 is fixed."""
    return diffusers.HunyuanImageTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=1, num_single_layers=1,
        num_refiner_layers=1, patch_size=(1, 1), text_embed_dim=16, rope_axes_dim=(4, 4))


def ideogram_transformer() -> diffusers.Ideogram4Transformer2DModel:
    """Its pipeline reads thirteen layers of the text encoder."""
    return diffusers.Ideogram4Transformer2DModel(
        in_channels=16, num_layers=2, attention_head_dim=8, num_attention_heads=2, intermediate_size=16, adaln_dim=16,
        llm_features_dim=13 * 8, rope_theta=10_000, mrope_section=(2, 1, 1))


def kandinsky5_transformer() -> diffusers.Kandinsky5Transformer3DModel:
    return diffusers.Kandinsky5Transformer3DModel(
        in_visual_dim=4, out_visual_dim=4, in_text_dim=16, in_text_dim2=16, time_dim=16, patch_size=(1, 2, 2), model_dim=16,
        ff_dim=16, num_text_blocks=1, num_visual_blocks=1, axes_dims=(4, 6, 6), attention_type="regular")


def krea_transformer() -> diffusers.Krea2Transformer2DModel:
    return diffusers.Krea2Transformer2DModel(
        in_channels=16, num_layers=2, attention_head_dim=8, num_attention_heads=2, num_key_value_heads=1, intermediate_size=16,
        timestep_embed_dim=8, text_hidden_dim=16, num_text_layers=3, text_num_attention_heads=2, text_num_key_value_heads=1,
        text_intermediate_size=16, num_layerwise_text_blocks=1, num_refiner_text_blocks=1, axes_dims_rope=(4, 2, 2))


def longcat_transformer() -> diffusers.LongCatImageTransformer2DModel:
    """Its pipeline draws latents of sixteen channels whatever the config says."""
    return diffusers.LongCatImageTransformer2DModel(in_channels=64, joint_attention_dim=16, pooled_projection_dim=16, **_FLUX)


def lumina_transformer() -> diffusers.LuminaNextDiT2DModel:
    return diffusers.LuminaNextDiT2DModel(
        sample_size=16, patch_size=2, in_channels=4, hidden_size=16, num_layers=2, num_attention_heads=2, num_kv_heads=1,
        multiple_of=16, learn_sigma=True, cross_attention_dim=8, scaling_factor=1.0)


def nucleus_transformer() -> diffusers.NucleusMoEImageTransformer2DModel:
    """Of five layers, because the first three and the last have no experts."""
    return diffusers.NucleusMoEImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=5, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(4, 2, 2), mlp_ratio=12.0, num_experts=2, moe_intermediate_dim=8,
        capacity_factors=1.0)


def omnigen_transformer() -> diffusers.OmniGenTransformer2DModel:
    return diffusers.OmniGenTransformer2DModel(
        hidden_size=16, num_attention_heads=4, num_key_value_heads=4, intermediate_size=16, num_layers=1, in_channels=4,
        time_step_dim=4, vocab_size=128, pad_token_id=2, pos_embed_max_size=16,
        rope_scaling={"long_factor": [1, 2], "short_factor": [1, 2]})


def ovis_transformer() -> diffusers.OvisImageTransformer2DModel:
    return diffusers.OvisImageTransformer2DModel(patch_size=1, in_channels=16, out_channels=16, joint_attention_dim=16, **_FLUX)


def prx_transformer(channels: int, text_width: int, **config: Any) -> diffusers.PRXTransformer2DModel:
    return diffusers.PRXTransformer2DModel(in_channels=channels, context_in_dim=text_width, hidden_size=8, mlp_ratio=2.0,
                                           num_heads=2, depth=2, axes_dim=[2, 2], **config)


def z_image_omni_transformer() -> diffusers.ZImageTransformer2DModel:
    return diffusers.ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16, siglip_feat_dim=8,
        axes_dims=[8, 4, 4], axes_lens=[1024, 32, 32])
