"""OneTrainer's files: diffusers' paths with underscores and kohya's endings; transformers have their own prefix."""

from __future__ import annotations

from typing import Final

from harness.adapters.formats.keys import Format, Key
from harness.adapters.formats.kohya import PREFIXES, flat_key

_PREFIXES: Final = (("lora_transformer_", "transformer"), *PREFIXES)


def parse(key: str) -> Key | None:
    """"lora_transformer_single_transformer_blocks_0_proj_mlp.lora_down.weight" and the like."""
    return flat_key(key, _PREFIXES)


FORMAT: Final = Format(says="OneTrainer (lora_transformer_..., alpha per module)", tool="OneTrainer", parse=parse)
