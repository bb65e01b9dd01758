"""XLabs' LoRA files for Flux: attention processors of the original code, without alpha."""

from __future__ import annotations

import re
from typing import Final

from harness.adapters.formats.keys import Format, Key
from harness.adapters.module_names import QKV_OF_LINEAR1

_DOUBLE: Final = re.compile(r"(?:diffusion_model\.)?(double_blocks\.\d+)\.processor\.(qkv|proj)_lora([12])\.(down|up)\.weight")
_SINGLE: Final = re.compile(r"(?:diffusion_model\.)?(single_blocks\.\d+)\.processor\.(qkv|proj)_lora\.(down|up)\.weight")
_STREAM: Final = {"1": "img", "2": "txt"}
_OF_SINGLE: Final = {"qkv": f"linear1.{QKV_OF_LINEAR1}", "proj": "linear2"}


def parse(key: str) -> Key | None:
    """"double_blocks.0.processor.qkv_lora1.down.weight": lora1 is the image stream, lora2 the text stream."""
    if double := _DOUBLE.fullmatch(key):
        name, role = f"{double[1]}.{_STREAM[double[3]]}_attn.{double[2]}", double[4]
    elif single := _SINGLE.fullmatch(key):
        name, role = f"{single[1]}.{_OF_SINGLE[single[2]]}", single[3]
    else:
        return None
    return Key(places=(("transformer", name),), kind="lora", role=role)


FORMAT: Final = Format(says="XLabs Flux (processor.qkv_lora1; strength in the factors)", tool="XLabs", parse=parse,
                       strength="factors")
