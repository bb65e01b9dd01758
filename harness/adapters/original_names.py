"""The names of a diffusers U-Net's layers in Stable Diffusion's original code.

kohya's SDXL files and ComfyUI's use them.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

_TOP: Final = {
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
}
_IN_RESNET: Final = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
                     "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
_BLOCK: Final = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")
_MIDDLE: Final = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)")


def original_names(paths: Collection[str]) -> dict[str, str]:
    """Module path to original name, for the paths of a U-Net of the Stable Diffusion 1, 2 or XL layout.

    The original numbers its blocks consecutively: with L resnets per down block, down block b holds input blocks 1 + b (L +
    1) + 0 .. L (the last one the downsampler), up block b output blocks b (L + 1) + 0 .. L.
    """
    down_layers = len({m[4] for path in paths if (m := _BLOCK.match(path)) and m[1] == "down" and m[2] == "0"
                       and m[3] == "resnets"})
    attentive = {m[2] for path in paths if (m := _BLOCK.match(path)) and m[1] == "up" and m[3] == "attentions"}
    names: dict[str, str] = {}
    for path in paths:
        if path in _TOP:
            names[path] = _TOP[path]
        elif middle := _MIDDLE.fullmatch(path):
            kind, number, rest = middle.groups()
            names[path] = (f"middle_block.{2 * int(number)}.{_IN_RESNET.get(rest, rest)}" if kind == "resnets"
                           else f"middle_block.{2 * int(number) + 1}.{rest}")
        elif block := _BLOCK.fullmatch(path):
            names[path] = _in_block(block, down_layers + 1, attentive)
    return names


def _in_block(block: re.Match[str], per_block: int, attentive: Collection[str]) -> str:
    side, number, kind, layer, rest = block.groups()
    index = int(number) * per_block + int(layer) + (1 if side == "down" else 0)
    stem = "input_blocks" if side == "down" else "output_blocks"
    if kind == "resnets":
        return f"{stem}.{index}.0.{_IN_RESNET.get(rest, rest)}"
    if kind == "attentions":
        return f"{stem}.{index}.1.{rest}"
    if kind == "downsamplers":
        return f"{stem}.{(int(number) + 1) * per_block}.0.op"
    return f"{stem}.{(int(number) + 1) * per_block - 1}.{2 if number in attentive else 1}.conv"
