"""Files of kohya's sd-scripts and of LyCORIS: a prefix for the component, then the path with underscores for dots."""

from __future__ import annotations

from typing import Final

from harness.adapters.formats.keys import Format, Key, split_flat

PREFIXES: Final = (
    ("lora_unet_", "denoiser"), ("oft_unet_", "denoiser"), ("lora_te1_", "text_encoder"), ("lora_te2_", "text_encoder_2"),
    ("lora_te3_", "t5"), ("lora_te_", "text_encoder"),
)
LYCORIS: Final = (
    ("lycoris_unet_", "denoiser"), ("lycoris_te1_", "text_encoder"), ("lycoris_te2_", "text_encoder_2"),
    ("lycoris_te3_", "t5"), ("lycoris_te_", "text_encoder"), ("lycoris_text_encoder_2_", "text_encoder_2"),
    ("lycoris_text_encoder_", "text_encoder"), ("lycoris_", "denoiser"), ("lycoris_transformer_", "denoiser"),
)
"""LyCORIS' wrapper uses the same prefix for every model; "transformer" may be the component or part of a path."""


def flat_key(key: str, prefixes: tuple[tuple[str, str], ...]) -> Key | None:
    """Parses a key with one of these prefixes; every matching prefix gives a place to look up. None without a match."""
    if (parts := split_flat(key)) is None:
        return None
    name, kind, role = parts
    places = tuple((part, name[len(prefix):]) for prefix, part in prefixes if name.startswith(prefix))
    return Key(places=places, kind=kind, role=role, flat=True) if places else None


def parse(key: str) -> Key | None:
    """"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight" and the like."""
    return flat_key(key, PREFIXES)


def parse_lycoris(key: str) -> Key | None:
    """"lycoris_transformer_blocks_0_attn_to_q.lokr_w1" and the like."""
    return flat_key(key, LYCORIS) or parse(key)


KOHYA: Final = Format(says="kohya / LyCORIS (lora_unet_..., alpha per module)", tool="kohya sd-scripts", parse=parse)
WRAPPED: Final = Format(says="LyCORIS wrapper (lycoris_..., alpha per module)", tool="LyCORIS", parse=parse_lycoris)
