"""What other adapter files look like, so that they are refused by their name. Reading asks it before it tries a format."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

MARKS: Final[tuple[tuple[str, str], ...]] = (
    (r"\.hada_w\d", "LoHa (LyCORIS)"),
    (r"\.lokr_w\d", "LoKr (LyCORIS)"),
    (r"\.(dora_scale|lora_magnitude_vector|magnitude)\b", "DoRA"),
    (r"\.lora_mid\.", "LoCon with a Tucker core"),
    (r"\.(oft_blocks|oft_diag|oft_R)\b", "OFT"),
    (r"\.boft_R\b", "BOFT"),
    (r"\.on_input$", "(IA)^3"),
    (r"\.[ab][12]\.weight$", "GLoRA"),
    (r"\.diff(_b)?$", "full weight differences"),
    (r"\.[wb]_norm$", "norm differences"),
    (r"\.(q_layer|p_layer)\.weight$", "T-LoRA"),
    (r"^(ip_adapter|image_proj)\.", "IP-Adapter"),
    (r"^lora_controlnet", "ControlLoRA"),
    (r"^(control_model|controlnet_cond_embedding)\.", "ControlNet"),
    (r"^lllite_unet", "ControlNet-LLLite"),
    (r"\.processor\.to_(q|k|v|out)_lora\.", "diffusers' attention-processor LoRA of 2023"),
    (r"\.(lora|lora_linear_layer)\.(down|up)\.", "diffusers' LoRA of 2023"),
    (r"^(unet|text_encoder):\d+:", "cloneofsimo's LoRA"),
    (r"^base_model\.model\.", "a PEFT adapter folder's weights"),
    (r"^(model\.diffusion_model|first_stage_model|cond_stage_model|conditioner)\.", "a checkpoint, not an adapter"),
    (r"^diffusion_model\.", "a LoRA in the original model's names"),
    (r"(^|_)(double|single)_blocks", "a Flux LoRA"),
    (r"joint_blocks", "a Stable Diffusion 3 LoRA"),
    (r"^(lora_transformer_|transformer\.)", "a transformer model's LoRA"),
)
"""A regular expression that finds its place in a key, and the kind of file that has such keys; the first match counts."""

_INVERSION_KEYS: Final = frozenset({"emb_params", "string_to_param", "clip_l", "clip_g", "text_encoders_0"})


def looks_like(keys: Collection[str]) -> str:
    """The name of the unsupported kind that these keys show, or an empty string."""
    if _INVERSION_KEYS.intersection(keys) or (len(keys) == 1 and "." not in next(iter(keys))):
        return "a textual inversion"
    for mark, name in MARKS:
        if any(re.search(mark, key) for key in keys):
            return name
    return ""
