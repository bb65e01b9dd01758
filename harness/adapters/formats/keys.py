"""The endings of tensor names that give a tensor's role in its module, shared by all formats, and functions that split
keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from harness.adapters.adapter_file import Stored

ANY: Final = ""
"""The kind of endings that several kinds share."""
ENDINGS: Final[Mapping[str, tuple[str, str]]] = {
    "lora_down.weight": ("lora", "down"), "lora_up.weight": ("lora", "up"), "lora_mid.weight": ("lora", "mid"),
    "lora_down": ("lora", "down"), "lora_up": ("lora", "up"), "lora_up.bias": ("lora", "bias"),
    "lora.down.weight": ("lora", "down"), "lora.up.weight": ("lora", "up"),
    "lora_linear_layer.down.weight": ("lora", "down"), "lora_linear_layer.up.weight": ("lora", "up"),
    "alpha": (ANY, "alpha"), "lora.alpha": (ANY, "alpha"), "lora_alpha": (ANY, "alpha"),
    "dora_scale": (ANY, "magnitude"), "magnitude": (ANY, "magnitude"),
    **{f"hada_{role}": ("loha", role) for role in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{f"lokr_{role}": ("lokr", role) for role in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")},
    "diff": ("full", "diff"), "diff_b": ("full", "diff_b"), "w_norm": ("norm", "w_norm"), "b_norm": ("norm", "b_norm"),
    **{f"{role}.weight": ("glora", role) for role in ("a1", "a2", "b1", "b2")}, "bm.weight": ("glora", "mid"),
    "on_input": ("ia3", "on_input"), "oft_blocks": ("oft", "oft_blocks"), "rescale": ("oft", "rescale"),
}
_PEFT: Final = re.compile(r"\.lora_(A|B|magnitude_vector)(\.[A-Za-z_][^.]*)??(\.weight|\.bias)?$")
_PEFT_ROLES: Final = {("A", ".weight"): "down", ("B", ".weight"): "up", ("B", ".bias"): "bias"}


@dataclass(frozen=True, kw_only=True)
class Key:
    """A parsed tensor name. `places` are (part of the model, module name) pairs to look up, in order; the first existing
    one is used. Parts are components and "denoiser", which is the U-Net or the transformer. `flat` names have underscores
    instead of dots."""

    places: tuple[tuple[str, str], ...]
    kind: str
    role: str
    flat: bool = False


@dataclass(frozen=True, kw_only=True)
class Format:
    """A row of FORMATS.

    `parse` parses a key, or returns None for a key of another format. `names` parses all keys at once, for formats whose keys
    only have a meaning for a given model; it gets the file and {component: module paths}. `strength` is where the strength is
    stored: "alpha" (alpha tensors, divided by rank), "header" (or alpha tensors if it has none), "either" (the header's
    settings if it has them, else as "alpha"), or "factors" (multiplied in). `tool` is the program that writes the format.
    """

    says: str
    tool: str
    parse: Callable[[str], Key | None]
    strength: Literal["alpha", "header", "either", "factors"] = "alpha"
    names: Callable[[Stored, Mapping[str, Mapping[str, tuple[int, ...]]]], Mapping[str, Key]] | None = None


def split_flat(key: str) -> tuple[str, str, str] | None:
    """"lora_unet_mid_block.lora_down.weight" split into name, kind and role; the name ends at the first dot. None for an
    unknown ending."""
    name, _, ending = key.partition(".")
    if ending == "weight":
        return name, "ia3", "weight"
    if ending in ENDINGS:
        return name, *ENDINGS[ending]
    if peft := _PEFT.fullmatch(f".{ending}"):
        return _peft(name, peft)
    return None


def split_dotted(key: str) -> tuple[str, str, str] | None:
    """"mid_block.attentions.0.proj_in.lora_A.weight" split into name, kind and role by the longest known ending. None for
    an unknown ending."""
    if (peft := _PEFT.search(key)) and (found := _peft(key[:peft.start()], peft)):
        return found
    parts = key.split(".")
    for count in (3, 2, 1):
        ending = ".".join(parts[-count:])
        if len(parts) > count and ending in ENDINGS:
            return ".".join(parts[:-count]), *ENDINGS[ending]
    return None


def _peft(name: str, match: re.Match[str]) -> tuple[str, str, str] | None:
    if match[1] == "magnitude_vector":
        return name, ANY, "magnitude_rows"
    role = _PEFT_ROLES.get((match[1], match[3] or ""))
    return (name, "lora", role) if role else None
