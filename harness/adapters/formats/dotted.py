"""Files with dotted module paths, with or without a component's name in front: diffusers with PEFT, PEFT's folders,
AI-Toolkit, ComfyUI and OMI. They differ in prefix and in the place of the strength; modules are looked up in both layouts.
"""

from __future__ import annotations

from typing import Final

from harness.adapters.formats.keys import Format, Key, split_dotted
from harness.adapters.formats.kohya import PREFIXES, flat_key

_COMPONENTS: Final = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
_PEFT_PREFIX: Final = "base_model.model."
_COMFY: Final = (("diffusion_model.", "denoiser"), ("model.diffusion_model.", "denoiser"),
                 ("text_encoders.clip_l.transformer.", "text_encoder"), ("text_encoders.clip_l.", "text_encoder"),
                 ("text_encoders.clip_h.transformer.", "text_encoder"), ("text_encoders.clip_h.", "text_encoder"),
                 ("text_encoders.clip_g.transformer.", "text_encoder_2"), ("text_encoders.clip_g.", "text_encoder_2"),
                 ("text_encoders.t5xxl.transformer.", "t5"), ("text_encoders.t5xxl.", "t5"),
                 ("clip_l.", "text_encoder"), ("clip_g.", "text_encoder_2"), ("t5.", "t5"), ("t5xxl.", "t5"))
_BARE: Final = ("double_blocks.", "single_blocks.", "joint_blocks.", "transformer_blocks.", "single_transformer_blocks.",
                "img_in.", "txt_in.", "time_in.", "vector_in.", "guidance_in.", "final_layer.", "x_embedder.",
                "context_embedder.", "time_text_embed.", "norm_out.", "proj_out.", "input_blocks.", "output_blocks.",
                "middle_block.", "down_blocks.", "up_blocks.", "mid_block.", "conv_in.", "conv_out.", "time_embedding.")
_OMI_ENDINGS: Final = ("lora_down", "lora_up", "lora_down.weight", "lora_up.weight", "alpha", "dora_scale")


def parse(key: str) -> Key | None:
    """"transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight"; `base_model.model.` may follow the component."""
    component, _, rest = key.partition(".")
    if component not in _COMPONENTS:
        return None
    # transformer.transformer_blocks is diffusers' ordinary spelling; OMI's short endings are a separate format.
    return _key(component, rest.removeprefix(_PEFT_PREFIX))


def parse_peft(key: str) -> Key | None:
    """"base_model.model.mid_block..."; the component follows from the model's paths."""
    if not key.startswith(_PEFT_PREFIX) or (parts := split_dotted(key.removeprefix(_PEFT_PREFIX))) is None:
        return None
    name = parts[0]
    places = [("denoiser", name), *((part, name) for part in ("text_encoder", "text_encoder_2", "text_encoder_3"))]
    return Key(places=tuple(places), kind=parts[1], role=parts[2])


def parse_comfy(key: str) -> Key | None:
    """"diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight"; text encoders may have kohya's names."""
    for prefix, part in _COMFY:
        if key.startswith(prefix):
            return _key(part, key.removeprefix(prefix))
    return flat_key(key, tuple(row for row in PREFIXES if row[1] != "denoiser"))


def parse_bare(key: str) -> Key | None:
    """"double_blocks.0.img_attn.qkv.lora_A.weight", without a prefix; text encoders as in ComfyUI's files."""
    return _key("denoiser", key) if key.startswith(_BARE) else parse_comfy(key)


def parse_omi(key: str) -> Key | None:
    """"unet.mid_block.attentions.0.proj_in.lora_down" and the like."""
    key_parts = parse(key)
    endings = tuple(f".{ending}" for ending in _OMI_ENDINGS)
    return key_parts if key_parts is not None and key.endswith(endings) else None


def _key(part: str, rest: str) -> Key | None:
    if (parts := split_dotted(rest)) is None:
        return None
    return Key(places=((part, parts[0]),), kind=parts[1], role=parts[2])


DIFFUSERS: Final = Format(says="diffusers with PEFT (unet. / transformer. ..., .lora_A, .lora_B, strength in the header)",
                          tool="diffusers", parse=parse, strength="header")
PEFT: Final = Format(says="PEFT (base_model.model. ..., strength in adapter_config.json)", tool="PEFT", parse=parse_peft,
                     strength="header")
COMFY: Final = Format(says="AI-Toolkit / ComfyUI (diffusion_model. ..., original names)", tool="AI-Toolkit", parse=parse_comfy)
# diffusers writes such names too, with settings in the header: unet.save_lora_adapter(...).
BARE: Final = Format(says="names without prefix (double_blocks. ..., .lora_A, .lora_B)", tool="OneTrainer", parse=parse_bare,
                     strength="either")
OMI: Final = Format(says="OMI (unet. ..., .lora_down, .lora_up)", tool="OneTrainer", parse=parse_omi)
