"""The tiny pipelines whose denoiser is a U-Net, apart from Stable Diffusion: with a prior, on pixels, or of few steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import diffusers
import transformers
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer

from tests.tiny_pipelines import more_encoders as more
from tests.tiny_pipelines import parts
from tests.tiny_pipelines import text_encoders as encoders
from tests.tiny_pipelines.row import Tiny
from tests.tiny_pipelines.tokenizers import clip_tokenizer, t5_tokenizer

_WIDTH = 32
_CLIP = {"text_encoder": partial(encoders.clip, _WIDTH, 2, length=77), "tokenizer": partial(clip_tokenizer, length=77)}
_T5 = {"text_encoder": partial(encoders.t5, _WIDTH), "tokenizer": t5_tokenizer}
_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
_COSINE = partial(diffusers.DDPMScheduler, beta_schedule="squaredcos_cap_v2")
_NO_CLASS = "diffusers cannot load the folder it writes: the library that its index names has no class PaellaVQModel"
_PRIOR_STEPS = {"height": 16, "width": 16, "num_inference_steps": 2, "prior_num_inference_steps": 2}


def added_keys(channels: int, **config: Any) -> diffusers.UNet2DConditionModel:
    """Of IF and Kandinsky 2: attention over keys of the text beside the picture's, and the variance beside the noise."""
    return diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=channels, out_channels=2 * channels, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"), norm_num_groups=4, attention_head_dim=8,
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", cross_attention_dim=_WIDTH, encoder_hid_dim=_WIDTH,
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), resnet_time_scale_shift="scale_shift", **config)


def movq(blocks: int = 2) -> diffusers.VQModel:
    return diffusers.VQModel(
        block_out_channels=[4, 8, 8, 8][:blocks], down_block_types=["DownEncoderBlock2D"] * blocks, latent_channels=4,
        up_block_types=["UpDecoderBlock2D"] * blocks, vq_embed_dim=4, norm_num_groups=4, num_vq_embeddings=12)


def prior() -> diffusers.PriorTransformer:
    return diffusers.PriorTransformer(num_attention_heads=2, attention_head_dim=8, embedding_dim=_WIDTH, num_layers=1,
                                      num_embeddings=9)


def clip_vision() -> transformers.CLIPVisionModelWithProjection:
    return transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(
        hidden_size=8, image_size=8, patch_size=4, projection_dim=_WIDTH, intermediate_size=8, num_attention_heads=2,
        num_hidden_layers=1))


_JOINED = partial(encoders.clip, _WIDTH, 2, projected=True, projection=_WIDTH)
_KANDINSKY: Mapping[str, Callable[[], Any]] = {
    "prior_prior": prior, "prior_image_encoder": clip_vision, "prior_text_encoder": _JOINED, "prior_tokenizer": clip_tokenizer,
    "prior_image_processor": partial(transformers.CLIPImageProcessor, crop_size=8, size=8), "movq": movq,
    "prior_scheduler": partial(diffusers.UnCLIPScheduler, variance_type="fixed_small_log", prediction_type="sample",
                               clip_sample_range=10.0)}

UNETS: Mapping[str, Tiny] = {
    "IFPipeline": Tiny(
        parts=_T5 | {
            "unet": partial(added_keys, 3, addition_embed_type="text", addition_embed_type_num_heads=2,
                            cross_attention_norm="group_norm", act_fn="gelu"),
            "scheduler": partial(_COSINE, thresholding=True, dynamic_thresholding_ratio=0.95, variance_type="learned_range")},
        options={"safety_checker": None, "feature_extractor": None, "watermarker": None, "requires_safety_checker": False},
        gain=0.7),
    "KandinskyCombinedPipeline": Tiny(
        parts=_KANDINSKY | {
            "text_encoder": partial(more.multilingual_clip, _WIDTH, _WIDTH), "tokenizer": more.xlm_roberta_tokenizer,
            "unet": partial(added_keys, 4, addition_embed_type="text_image", encoder_hid_dim_type="text_image_proj",
                            addition_embed_type_num_heads=2),
            "scheduler": partial(diffusers.DDIMScheduler, set_alpha_to_one=False, **_BETAS)},
        call=_PRIOR_STEPS, gain=0.7),
    "KandinskyV22CombinedPipeline": Tiny(
        parts=_KANDINSKY | {
            "unet": partial(added_keys, 4, addition_embed_type="image", encoder_hid_dim_type="image_proj"),
            "scheduler": partial(diffusers.DDPMScheduler, **_BETAS)},
        call=_PRIOR_STEPS, gain=0.7),
    "Kandinsky3Pipeline": Tiny(
        parts=_T5 | {
            "unet": partial(diffusers.Kandinsky3UNet, time_embedding_dim=4, groups=2, attention_head_dim=4, layers_per_block=2,
                            block_out_channels=(8, 16), cross_attention_dim=4, encoder_hid_dim=_WIDTH),
            "movq": partial(movq, 4), "scheduler": _COSINE},
        call={"height": 64, "width": 64, "num_inference_steps": 2}, gain=0.7),
    "LatentConsistencyModelPipeline": Tiny(
        parts=_CLIP | {"unet": partial(parts.unet, _WIDTH, time_cond_proj_dim=8), "vae": parts.kl_vae,
                       "scheduler": partial(diffusers.LCMScheduler, beta_schedule="scaled_linear", **_BETAS)},
        options={"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}),
    "LDMTextToImagePipeline": Tiny(parts={
        "bert": partial(encoders.clip, _WIDTH, 2, length=77), "tokenizer": partial(clip_tokenizer, length=77),
        "unet": partial(parts.unet, _WIDTH), "vqvae": partial(parts.kl_vae, levels=4),
        "scheduler": partial(diffusers.DDIMScheduler, beta_schedule="scaled_linear", set_alpha_to_one=False, **_BETAS)}),
    "StableUnCLIPPipeline": Tiny(
        parts=_CLIP | {
            "prior_tokenizer": clip_tokenizer, "prior_text_encoder": _JOINED, "prior": prior,
            "prior_scheduler": partial(diffusers.UnCLIPScheduler, variance_type="fixed_small_log", prediction_type="sample",
                                       clip_sample_range=5.0),
            "image_normalizer": partial(StableUnCLIPImageNormalizer, embedding_dim=_WIDTH), "image_noising_scheduler": _COSINE,
            "unet": partial(parts.unet, _WIDTH, class_embed_type="projection",
                            projection_class_embeddings_input_dim=2 * _WIDTH),
            "scheduler": partial(diffusers.DDIMScheduler, beta_schedule="scaled_linear", prediction_type="v_prediction",
                                 set_alpha_to_one=False, **_BETAS),
            "vae": parts.kl_vae},
        call=_PRIOR_STEPS),
    "StableCascadeCombinedPipeline": Tiny(reason=_NO_CLASS),
    "WuerstchenCombinedPipeline": Tiny(reason=_NO_CLASS),
}
