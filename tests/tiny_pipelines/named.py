"""The tiny pipelines of the families that people know by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import diffusers
from diffusers import FlowMatchEulerDiscreteScheduler as FlowEuler
from PIL import Image

from tests.tiny_pipelines import parts, tokenizers
from tests.tiny_pipelines import text_encoders as encoders
from tests.tiny_pipelines.row import Tiny

_CALL = {"height": 32, "width": 32, "num_inference_steps": 2}
_ANY_SIZE = _CALL | {"use_resolution_binning": False}
_SHIFTED = partial(FlowEuler, use_dynamic_shifting=True)
_CLIP = partial(tokenizers.clip_tokenizer, length=24)
_LONG_CLIP = partial(tokenizers.clip_tokenizer, length=128)
_PICTURE = Image.linear_gradient("L").resize((32, 32)).convert("RGB")
_DDIM = partial(diffusers.DDIMScheduler, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False,
                set_alpha_to_one=False, steps_offset=1)

_SANA = {"transformer": parts.sana_transformer, "vae": parts.dc_vae, "text_encoder": partial(encoders.gemma2, 8),
         "tokenizer": tokenizers.gemma_tokenizer,
         "scheduler": partial(diffusers.DPMSolverMultistepScheduler, prediction_type="flow_prediction", use_flow_sigmas=True,
                              flow_shift=3.0)}
_PIXART = {"transformer": parts.pixart_transformer, "vae": parts.kl_vae, "text_encoder": partial(encoders.t5, 16),
           "tokenizer": tokenizers.t5_tokenizer, "scheduler": diffusers.DPMSolverMultistepScheduler}
_FLUX = {"transformer": parts.flux_transformer, "vae": partial(parts.kl_vae, scaling_factor=0.3611, shift_factor=0.1159),
         "text_encoder": partial(encoders.clip, 12, 2, length=24), "text_encoder_2": partial(encoders.t5, 24),
         "tokenizer": _CLIP, "tokenizer_2": tokenizers.t5_tokenizer, "scheduler": _SHIFTED}

NAMED: Mapping[str, Tiny] = {
    "AuraFlowPipeline": Tiny(parts={
        "transformer": parts.auraflow_transformer, "vae": parts.kl_vae, "text_encoder": partial(encoders.umt5, 16),
        "tokenizer": tokenizers.t5_tokenizer, "scheduler": partial(FlowEuler, shift=1.73)}),
    "ChromaPipeline": Tiny(parts={
        "transformer": parts.chroma_transformer, "vae": _FLUX["vae"], "text_encoder": partial(encoders.t5, 16),
        "tokenizer": tokenizers.t5_tokenizer, "scheduler": FlowEuler}),
    "Flux2KleinPipeline": Tiny(parts={
        "transformer": partial(parts.flux2_transformer, 24, guided=False), "vae": parts.flux2_vae,
        "text_encoder": partial(encoders.qwen3, 8, layers=28, causal=True), "tokenizer": tokenizers.qwen_tokenizer,
        "scheduler": _SHIFTED}),
    "Flux2Pipeline": Tiny(parts={
        "transformer": partial(parts.flux2_transformer, 24, guided=True), "vae": parts.flux2_vae,
        "text_encoder": partial(encoders.mistral3, 8, layers=31), "tokenizer": tokenizers.mistral_processor,
        "scheduler": _SHIFTED}),
    "FluxControlPipeline": Tiny(parts=_FLUX | {"transformer": partial(parts.flux_transformer, given=32)},
                                call=_CALL | {"control_image": _PICTURE}),
    "FluxFillPipeline": Tiny(parts=_FLUX | {"transformer": partial(parts.flux_transformer, given=16 + 16 + 16)},
                             call=_CALL | {"image": _PICTURE, "mask_image": _PICTURE}),
    "FluxPipeline": Tiny(parts=_FLUX),
    "FluxPipeline:schnell": Tiny(parts=_FLUX | {"transformer": partial(parts.flux_transformer, guided=False),
                                                "scheduler": FlowEuler}),
    "FluxKontextPipeline": Tiny(parts=_FLUX, call=_CALL | {"max_area": 32 * 32}),
    "HiDreamImagePipeline": Tiny(parts={
        "transformer": parts.hidream_transformer,
        "vae": partial(parts.kl_vae, levels=1, shift_factor=0.1159, mid_block_add_attention=False),
        "text_encoder": partial(encoders.clip, 12, 2, projected=True, length=128), "tokenizer": _LONG_CLIP,
        "text_encoder_2": partial(encoders.clip, 20, 2, projected=True, length=128), "tokenizer_2": _LONG_CLIP,
        "text_encoder_3": partial(encoders.t5, 16), "tokenizer_3": tokenizers.t5_tokenizer,
        "text_encoder_4": partial(encoders.llama3, 16), "tokenizer_4": tokenizers.llama3_tokenizer, "scheduler": FlowEuler},
        call=_CALL | {"height": 128, "width": 128}),
    "Lumina2Pipeline": Tiny(parts={
        "transformer": parts.lumina2_transformer, "vae": partial(parts.kl_vae, levels=4, shift_factor=0.1159),
        "text_encoder": partial(encoders.gemma2, 8), "tokenizer": tokenizers.gemma_tokenizer,
        "scheduler": partial(FlowEuler, shift=6.0)}),
    "PixArtAlphaPipeline": Tiny(parts=_PIXART, call=_ANY_SIZE),
    "PixArtSigmaPipeline": Tiny(parts=_PIXART, call=_ANY_SIZE),
    "QwenImage21Pipeline": Tiny(parts={
        "transformer": parts.qwen21_transformer, "vae": partial(parts.causal_vae, diffusers.AutoencoderKLQwenImage21, 8, levels=5,
                                                              dim_mult=[1] * 5, decoder_base_dim=8),
        "text_encoder": partial(encoders.qwen3_vl, 16), "processor": tokenizers.qwen3_vl_processor, "scheduler": _SHIFTED}),
    "QwenImagePipeline": Tiny(parts={
        "transformer": parts.qwen_transformer, "vae": partial(parts.causal_vae, diffusers.AutoencoderKLQwenImage, 8),
        "text_encoder": partial(encoders.qwen2_vl, 16), "tokenizer": tokenizers.qwen_tokenizer, "scheduler": _SHIFTED}),
    "SanaPipeline": Tiny(parts=_SANA, call=_ANY_SIZE),
    "SanaSprintPipeline": Tiny(
        parts=_SANA | {"transformer": partial(parts.sana_transformer, qk_norm="rms_norm_across_heads", guidance_embeds=True),
                       "scheduler": diffusers.SCMScheduler}, call=_ANY_SIZE),
    "StableDiffusion3Pipeline": Tiny(parts={
        "transformer": parts.sd3_transformer, "vae": partial(parts.kl_vae, scaling_factor=1.5305, shift_factor=0.0609),
        "text_encoder": partial(encoders.clip, 12, 3, projected=True, length=24), "tokenizer": _CLIP,
        "text_encoder_2": partial(encoders.clip, 20, 3, projected=True, length=24), "tokenizer_2": partial(_CLIP, "!"),
        "text_encoder_3": partial(encoders.t5, 40), "tokenizer_3": tokenizers.t5_tokenizer,
        "scheduler": partial(FlowEuler, shift=3.0)}),
    "StableDiffusionPipeline": Tiny(
        parts={"unet": partial(parts.unet, 12), "vae": partial(parts.kl_vae, scaling_factor=0.18215), "tokenizer": _CLIP,
               "text_encoder": partial(encoders.clip, 12, 3, length=24), "scheduler": _DDIM},
        options={"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}),
    "StableDiffusionXLPipeline": Tiny(
        parts={"unet": partial(parts.unet, 32, addition_embed_type="text_time", addition_time_embed_dim=4,
                               projection_class_embeddings_input_dim=22 + 6 * 4, transformer_layers_per_block=(1, 2),
                               use_linear_projection=True),
               "vae": partial(parts.kl_vae, scaling_factor=0.13025), "tokenizer": _CLIP, "tokenizer_2": partial(_CLIP, "!"),
               "text_encoder": partial(encoders.clip, 12, 3, length=24),
               "text_encoder_2": partial(encoders.clip, 20, 3, projected=True, length=24), "scheduler": _DDIM},
        options={"add_watermarker": False}),
    "WanPipeline": Tiny(
        parts={"transformer": parts.wan_transformer, "vae": partial(parts.causal_vae, diffusers.AutoencoderKLWan, 4, levels=4),
               "text_encoder": partial(encoders.umt5, 16), "tokenizer": tokenizers.t5_tokenizer,
               "scheduler": partial(FlowEuler, shift=5.0)}, call=_CALL | {"num_frames": 1}),
    "ZImagePipeline": Tiny(parts={
        "transformer": parts.z_image_transformer, "vae": _FLUX["vae"], "text_encoder": partial(encoders.qwen3, 16),
        "tokenizer": tokenizers.qwen_tokenizer, "scheduler": partial(FlowEuler, shift=3.0)}),
}
