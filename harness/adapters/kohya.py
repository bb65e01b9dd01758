"""kohya's LoRA files: underscored module names and one alpha tensor per module. ADAPTER_FORMATS lists it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from harness.adapters.contract import AdapterFile, AdapterFormat, Part, Role, Spellings, Strength
from harness.adapters.original_names import original_names

PREFIXES: Final = {
    "lora_unet_": "unet",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lora_te_": "text_encoder",
}
_ROLES: Final[dict[str, Role]] = {".lora_down.weight": "down", ".lora_up.weight": "up", ".alpha": "alpha"}


def parse(key: str) -> Part | None:
    """"lora_unet_mid_block_attentions_0_proj_in.lora_down.weight" to its component, module name and role."""
    for prefix, component in PREFIXES.items():
        for suffix, role in _ROLES.items():
            if key.startswith(prefix) and key.endswith(suffix):
                return Part(component=component, module=key[len(prefix):-len(suffix)], role=role)
    return None


def spellings(paths: Collection[str]) -> Spellings:
    """Dots become underscores, which cannot be undone: names are looked up, never decoded.

    U-Net layers have two names, that of diffusers (Stable Diffusion 1) and that of the original code (XL).
    """
    names = [(path, path) for path in paths] + [(name, path) for path, name in original_names(paths).items()]
    return [(name.replace(".", "_"), path) for name, path in names]


def strength(file: AdapterFile, part: Part, path: str, rank: int, alpha: float | None) -> Strength:  # noqa: ARG001 - one signature for all formats
    """alpha / rank, module by module; a module without alpha has alpha = rank, whatever the others have."""
    if alpha is None:
        return Strength(alpha=float(rank), scale=1.0, note="modules without an alpha tensor count as alpha = rank")
    return Strength(alpha=alpha, scale=alpha / rank)


FORMAT: Final = AdapterFormat(says="kohya LoRA (lora_unet_..., .lora_down, .lora_up, .alpha)", parse=parse,
                              spellings=spellings, strength=strength)
