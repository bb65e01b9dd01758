"""diffusers' LoRA files of 2023, before PEFT: attention processors with and without `unet.` in front, then plain layers.
Where such a file has PEFT's settings in its header, diffusers takes the strength from there."""

from __future__ import annotations

import re
from typing import Final

from harness.adapters.formats.keys import Format, Key, split_dotted

_PROCESSOR: Final = re.compile(r"(.+?)(?:\.processor)?\.to_(q|k|v|out)_lora\.(down|up)\.weight")
_ROLES: Final = {"down": "down", "up": "up"}
_UNET: Final = {"q": "to_q", "k": "to_k", "v": "to_v", "out": "to_out.0"}
_TEXT: Final = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}
_COMPONENTS: Final = ("unet", "text_encoder", "text_encoder_2")
_BARE: Final = ("down_blocks.", "up_blocks.", "mid_block.")
"""How paths of a U-Net begin in files without `unet.`, diffusers' earliest format."""


def parse(key: str) -> Key | None:
    """"unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight" and the like."""
    component, _, rest = key.partition(".")
    if component not in _COMPONENTS:
        component, rest = ("unet", key) if key.startswith(_BARE) else ("", "")
    if not component:
        return None
    if old := _PROCESSOR.fullmatch(rest):
        layer = (_UNET if component == "unet" else _TEXT)[old[2]]
        return Key(places=((component, f"{old[1]}.{layer}"),), kind="lora", role=_ROLES[old[3]])
    parts = split_dotted(rest)
    if parts is None or not re.search(r"\.(lora|lora_linear_layer)\.(down|up)\.weight$|\.alpha$", rest):
        return None
    return Key(places=((component, parts[0]),), kind=parts[1], role=parts[2])


FORMAT: Final = Format(says="diffusers of 2023 (processor.to_q_lora, .lora.down, .lora_linear_layer; strength in the factors)",
                       tool="diffusers", parse=parse, strength="either")
