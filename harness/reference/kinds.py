"""What an IP-Adapter file is, by the names of its tensors: the kinds that are supported, and those that are refused by name."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

PLAIN: Final = "plain"
"""Four tokens of the pooled embedding."""
PLUS: Final = "plus"
"""A resampler of the hidden states before the last layer, 16 tokens as a rule."""
PROJECTION: Final = "image_proj."
ATTENTION: Final = "ip_adapter."
_INSTEAD: Final = "Give the plain or the plus file of the same model, such as ip-adapter-plus-face for faces"
_FULL: Final = f"an IP-Adapter of the kind full, which takes all 257 tokens of an image encoder; it is not supported. {_INSTEAD}"
_FACE: Final = ("an IP-Adapter of the kind {}, which reads the embeddings of a face recognizer (insightface) and comes with a "
                f"LoRA; it is not supported. {_INSTEAD}")
_IN_ORDER: Final[tuple[tuple[str, str, str], ...]] = (
    ("proj.weight", PLAIN, ""),
    ("proj.3.weight", "", _FULL),
    ("perceiver_resampler.proj_in.weight", "", _FACE.format("FaceID plus")),
    ("norm.weight", "", _FACE.format("FaceID")),
    ("latents", PLUS, ""),
)
"""A name below `image_proj.`, the kind that it shows, and what is said of one that is not supported. The first that is there
decides: a plain file has norm.weight too."""
_OTHERS: Final[tuple[tuple[str, str], ...]] = (
    (r"(^|\.)(double_blocks|single_blocks)\.\d+\.processor\.ip_adapter_|^ip_adapter_proj_model\.",
     "an IP-Adapter for Flux (XLabs), and references are supported for U-Nets alone: Stable Diffusion 1, 2 and XL"),
    (r"^(image_proj\.)?(time_proj|time_embedding|timestep_embedder|layers\.\d+\.adaln)\b|^ip_adapter\.\d+\.norm",
     "an IP-Adapter for a transformer (Stable Diffusion 3), and references are supported for U-Nets alone: Stable Diffusion 1, 2 "
     "and XL"),
    (r"^(control_model|controlnet_cond_embedding|controlnet_down_blocks|zero_convs|input_hint_block)\.|^lora_controlnet$",
     "a control network. Give it to Candidate(controls=...)"),
    (r"lora_unet_|lora_te|\.lora_[AB]\.|\.lora\.(up|down)\.|\.hada_w|\.lokr_", "a LoRA or the like. Give it to "
     "Candidate(adapters=...)"),
    (r"^(vision_model|visual)\.|^image_encoder\.", "an image encoder, which IP-Adapters use. Give it as the reference's encoder"),
    (r"^model\.diffusion_model\.|^first_stage_model\.|^(down_blocks|up_blocks)\.", "a model. Give it as a candidate's model"),
)


def kind_of(names: Collection[str]) -> tuple[str, str]:
    """(kind, what is wrong) of a file with these names; one of them is empty."""
    inner = {name.removeprefix(PROJECTION) for name in names if name.startswith(PROJECTION)}
    for mark, what in _OTHERS:
        if any(re.search(mark, name) for name in names if len(name) < 1000):
            return "", f"this is {what}"
    if not any(name.startswith(ATTENTION) for name in names) or not inner:
        return "", ("this is not an IP-Adapter: expected tensors named image_proj... and ip_adapter.1.to_k_ip.weight, "
                    "ip_adapter.3.to_k_ip.weight ..., as published .safetensors and .bin files have them")
    for key, kind, what in _IN_ORDER:
        if key in inner:
            return kind, f"this is {what}" if what else ""
    return "", (f"this is an IP-Adapter of an unknown kind: below image_proj. it has none of "
                f"{', '.join(key for key, _, _ in _IN_ORDER)}. {_INSTEAD}")
