"""Names and shapes of whole single files, made of empty models: what merge.py fills with random values."""

from __future__ import annotations

import json
from typing import Any, Final

SDXL_UNET: Final[dict[str, Any]] = {
    "sample_size": 128, "block_out_channels": (320, 640, 1280), "layers_per_block": 2, "cross_attention_dim": 2048,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "attention_head_dim": (5, 10, 20),
    "transformer_layers_per_block": (1, 2, 10), "use_linear_projection": True, "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816}
CLIP_G: Final = {"width": 1280, "layers": 32, "tokens": 49408, "places": 77}

Shapes = dict[str, tuple[str, tuple[int, ...]]]


def single_file_shapes(size: str) -> Shapes:
    """{name: (dtype, shape)} of a Stable Diffusion 1.5 ("sd15") or SDXL ("sdxl") checkpoint in float16."""
    import torch
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from harness.weights import export_ldm
    from harness.weights.ldm import unet_to_ldm
    from harness.weights.live_pipeline import SD1_CONFIGS

    configs = {part: json.loads((SD1_CONFIGS / part / "config.json").read_text()) for part in ("unet", "vae", "text_encoder")}
    with init_empty_weights():
        unet = (UNet2DConditionModel(**SDXL_UNET) if size == "sdxl" else UNet2DConditionModel.from_config(configs["unet"]))
        vae = AutoencoderKL.from_config(configs["vae"])
        text = CLIPTextModel(CLIPTextConfig.from_dict(configs["text_encoder"]))
    halves = [{k: v.to(torch.float16) for k, v in m.state_dict().items()} for m in (vae, text)]
    names = unet_to_ldm(unet.state_dict())
    shapes: Shapes = {f"model.diffusion_model.{names[key]}": ("F16", tuple(t.shape)) for key, t in unet.state_dict().items()}
    with init_empty_weights():
        plain = UNet2DConditionModel.from_config(configs["unet"])
    for name, tensor in export_ldm(plain.state_dict(), *halves).items():
        if name.startswith("model.diffusion_model."):
            continue
        if size == "sdxl":
            name = name.replace("cond_stage_model.", "conditioner.embedders.0.")  # noqa: PLW2901
        shapes[name] = ("I64" if name.endswith("position_ids") else "F16", tuple(tensor.shape))
    if size == "sdxl":
        shapes |= {f"conditioner.embedders.1.model.{name}": ("F16", shape) for name, shape in _clip_g().items()}
    return shapes


def _clip_g() -> dict[str, tuple[int, ...]]:
    """OpenCLIP's text tower of the size of ViT-bigG, with fused projections."""
    wide = CLIP_G["width"]
    shapes: dict[str, tuple[int, ...]] = {
        "positional_embedding": (CLIP_G["places"], wide), "token_embedding.weight": (CLIP_G["tokens"], wide),
        "ln_final.weight": (wide,), "ln_final.bias": (wide,), "text_projection": (wide, wide), "logit_scale": ()}
    for layer in range(CLIP_G["layers"]):
        here = f"transformer.resblocks.{layer}"
        shapes |= {f"{here}.attn.in_proj_weight": (3 * wide, wide), f"{here}.attn.in_proj_bias": (3 * wide,),
                   f"{here}.attn.out_proj.weight": (wide, wide), f"{here}.attn.out_proj.bias": (wide,),
                   f"{here}.mlp.c_fc.weight": (4 * wide, wide), f"{here}.mlp.c_fc.bias": (4 * wide,),
                   f"{here}.mlp.c_proj.weight": (wide, 4 * wide), f"{here}.mlp.c_proj.bias": (wide,)}
        shapes |= {f"{here}.ln_{n}.{word}": (wide,) for n in (1, 2) for word in ("weight", "bias")}
    return shapes
