"""The tiny pipelines whose denoiser is a transformer and which `named.py` does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import diffusers
import transformers
from diffusers import FlowMatchEulerDiscreteScheduler as FlowEuler

from tests.tiny_pipelines import more_encoders as more
from tests.tiny_pipelines import more_parts, parts, tokenizers
from tests.tiny_pipelines import text_encoders as encoders
from tests.tiny_pipelines.row import Tiny

_CALL = {"height": 32, "width": 32, "num_inference_steps": 2}
_SHORT = _CALL | {"max_sequence_length": 32}
_ANY_SIZE = _CALL | {"use_resolution_binning": False}
_LARGE = {"height": 1024, "width": 1024, "num_inference_steps": 2}
_FLOW = {"scheduler": FlowEuler}
_T5 = {"text_encoder": partial(encoders.t5, 32), "tokenizer": tokenizers.t5_tokenizer}
_QWEN3 = {"text_encoder": partial(encoders.qwen3, 16), "tokenizer": tokenizers.qwen_tokenizer}
_KL_8 = partial(parts.kl_vae, levels=4)
_SHIFTED_KL = partial(parts.kl_vae, shift_factor=0.1)
_QWEN_VAE = partial(parts.causal_vae, diffusers.AutoencoderKLQwenImage, 8)
_MIXED = partial(diffusers.AdaptiveProjectedMixGuidance, adaptive_projected_guidance_start_step=1)
_DREAM_LITE = _FLOW | {
    "unet": more_parts.dream_lite_unet, "vae": more_parts.tiny_vae, "text_encoder": partial(encoders.qwen3_vl, 16),
    "tokenizer": tokenizers.qwen_tokenizer, "processor": tokenizers.qwen3_vl_processor}

OTHERS: Mapping[str, Tiny] = {
    "BriaFibo2Pipeline": Tiny(parts=_FLOW | {
        "transformer": more_parts.bria_fibo2_transformer, "vae": parts.flux2_vae,
        "text_encoder": partial(encoders.qwen3_vl, 8, layers=36), "processor": tokenizers.qwen3_vl_processor}),
    "BriaFiboPipeline": Tiny(parts=_FLOW | {
        "transformer": more_parts.bria_fibo_transformer, "vae": more_parts.wan_vae_16, "text_encoder": more.smol_lm3,
        "tokenizer": tokenizers.llama3_tokenizer}),
    "BriaPipeline": Tiny(
        parts=_FLOW | _T5 | {"transformer": more_parts.bria_transformer, "vae": partial(parts.kl_vae, shift_factor=0.0)},
        options={"image_encoder": None, "feature_extractor": None}),
    "CogView3PlusPipeline": Tiny(
        parts=_T5 | {"transformer": more_parts.cogview3_transformer, "vae": _KL_8, "scheduler": diffusers.CogVideoXDDIMScheduler},
        call=_SHORT),
    "CogView4Pipeline": Tiny(
        parts={"transformer": more_parts.cogview4_transformer, "vae": parts.kl_vae, "text_encoder": partial(more.glm, 16),
               "tokenizer": tokenizers.llama3_tokenizer,
               "scheduler": partial(FlowEuler, use_dynamic_shifting=True, time_shift_type="linear")},
        call=_SHORT),
    "Cosmos2TextToImagePipeline": Tiny(reason="it is not made without a checker from the package cosmos_guardrail"),
    "DreamLiteMobilePipeline": Tiny(parts=_DREAM_LITE, call=_SHORT),
    "DreamLitePipeline": Tiny(parts=_DREAM_LITE, call=_SHORT),
    "ErnieImagePipeline": Tiny(parts=_FLOW | {
        "transformer": more_parts.ernie_transformer, "vae": parts.flux2_vae, "text_encoder": partial(more.mistral3_model, 16),
        "tokenizer": tokenizers.mistral_tokenizer}),
    "Flux2KleinKVPipeline": Tiny(
        parts=_FLOW | {
            "transformer": partial(parts.flux2_transformer, 24, guided=False), "vae": parts.flux2_vae,
            "text_encoder": partial(encoders.qwen3, 8, layers=28, causal=True), "tokenizer": tokenizers.qwen_tokenizer},
        call=_SHORT),
    "GlmImagePipeline": Tiny(
        parts=_FLOW | {
            "transformer": more_parts.glm_transformer, "vae": partial(_KL_8, latents_mean=[0.1] * 4, latents_std=[0.9] * 4),
            "text_encoder": partial(encoders.byt5, 16), "tokenizer": tokenizers.byt5_tokenizer,
            "vision_language_encoder": more.glm_image, "processor": more.glm_image_processor},
        call=_CALL | {"height": 64, "width": 64}, gain=2.5),
    "HunyuanDiTPipeline": Tiny(
        parts={"transformer": more_parts.hunyuan_dit, "vae": _KL_8, "text_encoder": partial(more.bert, 16),
               "tokenizer": more.bert_tokenizer, "text_encoder_2": partial(encoders.t5, 32),
               "tokenizer_2": partial(tokenizers.t5_tokenizer, 256),
               "scheduler": partial(diffusers.DDPMScheduler, prediction_type="v_prediction")},
        options={"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}, call=_ANY_SIZE),
    "HunyuanImagePipeline": Tiny(parts=_FLOW | {
        "transformer": more_parts.hunyuan_image_transformer, "vae": more_parts.hunyuan_vae,
        "text_encoder": partial(encoders.qwen2_vl, 16), "tokenizer": tokenizers.qwen_tokenizer,
        "text_encoder_2": partial(encoders.byt5, 16), "tokenizer_2": tokenizers.byt5_tokenizer, "guider": _MIXED,
        "ocr_guider": _MIXED}),
    "Ideogram4Pipeline": Tiny(
        parts=_FLOW | {
            "transformer": more_parts.ideogram_transformer, "unconditional_transformer": more_parts.ideogram_transformer,
            "vae": parts.flux2_vae, "text_encoder": partial(encoders.qwen3_vl, 8, layers=36, causal=False),
            "tokenizer": tokenizers.qwen_tokenizer},
        call=_CALL | {"max_sequence_length": 64, "guidance_scale": 5.0, "guidance_schedule": None}),
    "Kandinsky5T2IPipeline": Tiny(
        parts=_FLOW | {
            "transformer": more_parts.kandinsky5_transformer,
            "vae": partial(_KL_8, block_out_channels=[4] * 4, mid_block_add_attention=False),
            "text_encoder": partial(encoders.qwen2_vl, 16), "tokenizer": more.qwen2_vl_processor,
            "text_encoder_2": partial(encoders.clip, 16, 2, length=77),
            "tokenizer_2": partial(tokenizers.clip_tokenizer, length=77)},
        call=_LARGE | {"max_sequence_length": 32}),
    "Krea2Pipeline": Tiny(
        parts={"transformer": more_parts.krea_transformer, "vae": _QWEN_VAE,
               "text_encoder": partial(encoders.qwen3_vl, 16, causal=False), "tokenizer": tokenizers.qwen_tokenizer,
               "scheduler": partial(FlowEuler, use_dynamic_shifting=True)},
        options={"text_encoder_select_layers": (0, 1, 2)}, call=_SHORT),
    "LongCatImagePipeline": Tiny(
        parts=_FLOW | {
            "transformer": more_parts.longcat_transformer, "vae": partial(_SHIFTED_KL, 16),
            "text_encoder": partial(encoders.qwen2_vl, 16), "tokenizer": tokenizers.qwen_tokenizer,
            "text_processor": more.qwen2_vl_processor},
        call=_CALL | {"enable_prompt_rewrite": False}),
    "LuminaPipeline": Tiny(
        parts=_FLOW | {"transformer": more_parts.lumina_transformer, "vae": _KL_8, "text_encoder": partial(more.gemma, 8),
                       "tokenizer": tokenizers.gemma_tokenizer},
        call=_SHORT),
    "NucleusMoEImagePipeline": Tiny(parts=_FLOW | {
        "transformer": more_parts.nucleus_transformer, "vae": _QWEN_VAE, "text_encoder": partial(encoders.qwen3_vl, 16, layers=8),
        "processor": tokenizers.qwen3_vl_processor}),
    "OmniGenPipeline": Tiny(parts={
        "transformer": more_parts.omnigen_transformer, "vae": _KL_8, "tokenizer": tokenizers.llama_tokenizer,
        "scheduler": partial(FlowEuler, invert_sigmas=True, num_train_timesteps=1)}),
    "OvisImagePipeline": Tiny(parts=_FLOW | _QWEN3 | {"transformer": more_parts.ovis_transformer, "vae": _SHIFTED_KL}),
    "PRXPipeline": Tiny(
        parts=_FLOW | {
            "transformer": partial(more_parts.prx_transformer, 4, 8, patch_size=2), "vae": _SHIFTED_KL,
            "text_encoder": partial(more.t5_gemma, 8), "tokenizer": partial(tokenizers.gemma_tokenizer, model_max_length=64)},
        call=_ANY_SIZE),
    "PRXPixelPipeline": Tiny(
        parts=_FLOW | _QWEN3 | {
            "transformer": partial(more_parts.prx_transformer, 3, 16, patch_size=4, bottleneck_size=8, resolution_embeds=True)},
        options={"prompt_max_tokens": 32}, call=_ANY_SIZE),
    "ZImageOmniPipeline": Tiny(parts=_FLOW | _QWEN3 | {
        "transformer": more_parts.z_image_omni_transformer, "vae": _SHIFTED_KL, "siglip": more.siglip2,
        "siglip_processor": transformers.Siglip2ImageProcessorPil}),
}
