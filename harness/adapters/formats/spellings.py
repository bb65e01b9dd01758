"""The usual spelling of a key that a converter prefixed twice, wrapped, or joined with underscores up to its last dot."""

from __future__ import annotations

import re
from typing import Final

from harness.weights.wrapped_names import TOOL_WORDS

_WRAPPER: Final = re.compile(rf"(?:^|(?<=\.))(?:{TOOL_WORDS}|module)\.")
"""Segments that training tools put between others; no module that an adapter changes is called so."""
_TWICE: Final = re.compile(
    r"^(unet|transformer|text_encoder|text_encoder_2|text_encoder_3|diffusion_model|model\.diffusion_model|base_model\.model)"
    r"\.(?:\1\.)+")
_MODEL: Final = re.compile(
    r"^(?:model\.)+(?=(?:model\.diffusion_model|base_model\.model|unet|transformer|text_encoder(?:_[23])?)\.)")
_FLAT: Final = re.compile(
    r"^((?:lora|lycoris|oft)_(?:unet|transformer|te[123]?)_)"
    r"(?:(?:lora_unet|unet|lora_transformer|transformer(?!_blocks|_resblocks)|model_diffusion_model|diffusion_model|base_model_model|module"
    r"|_orig_mod|lora_te[123]?|text_encoder(?:_[23])?)_)+")
"""A component's name once more behind the prefix of kohya's files: lora_unet_unet_down_blocks_..."""
_PROCESSOR: Final = re.compile(r"(?:_processor)?_to_(q|k|v|out)_lora_(down|up)\.weight$")
_ENDING: Final = re.compile(r"_(lora)_(down|up|mid|A|B)\.weight$|_lora_linear_layer_(down|up)\.weight$")
_TEXT: Final = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}


def usual_spelling(key: str) -> str:
    """The key as the tools of its format write it; most keys are unchanged."""
    if len(key) > 1000:
        return key
    key = _WRAPPER.sub("", key)
    key = _TWICE.sub(r"\1.", _MODEL.sub("", key))
    if not key.startswith(("lora_", "lycoris_", "oft_")):
        return key
    flat = _FLAT.sub(r"\1", key)
    text = flat.startswith(("lora_te", "lycoris_te"))
    if processor := _PROCESSOR.search(flat):
        part = processor[1]
        module = _TEXT[part] if text else "to_out_0" if part == "out" else f"to_{part}"
        return f"{flat[:processor.start()]}_{module}.lora_{processor[2]}.weight"
    return _ENDING.sub(lambda end: f".lora_{end[2] or end[3]}.weight", flat)
