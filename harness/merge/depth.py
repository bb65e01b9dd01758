"""The depth of each key in its model: the order of the layers of U-Nets, text encoders, VAEs and transformers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from harness.merge.blocks import DENOISERS, counts, slot_of, unet_blocks

_TEXT_LAYER: Final = re.compile(r"(?:.*\.)?(?:layers|block|resblocks)\.(\d+)\.")
_VAE_BLOCK: Final = re.compile(r"(encoder|decoder)\.(down_blocks|up_blocks)\.(\d+)\.")
_FIRST_STREAM: Final = ("img_in", "txt_in", "x_embedder", "context_embedder")


def layers_of(component: str, family: str, names: Mapping[str, str], denoiser: Sequence[str], whole: Collection[str]
              ) -> tuple[dict[str, tuple[str, int]], int]:
    """Returns {key: (name of its layer, index of the layer)} and the index of the last layer. `names` is {key: single-file
    name} and may hold only some of the component's keys. `denoiser` holds all single-file names of the U-Net or transformer,
    `whole` all keys of the component."""
    if component == "vae":
        return _vae_layers(names, whole)
    if component not in DENOISERS:
        layer_by_key = {key: int(m[1]) for key in whole if (m := _TEXT_LAYER.match(key))}
        return {key: (f"L{layer_by_key[key]:02d}", layer_by_key[key]) for key in names if key in layer_by_key}, max(
            layer_by_key.values(), default=0)
    if family in ("flux", "sd3"):
        return _stream_layers(family, names, counts(denoiser, family))
    size = counts(denoiser, family)
    order = {slot: index for index, slot in enumerate(unet_blocks(*size))}
    # The convention only decides where out. belongs: after the last block, just as the first convolution is the first block.
    slots = {key: slot_of("supermerger", family, component, name, size) for key, name in names.items()
             if name.partition(".")[0] not in ("time_embed", "label_emb")}
    return {key: (slot, order[slot]) for key, slot in slots.items() if slot in order}, len(order) - 1


def _vae_layers(names: Collection[str], whole: Collection[str]) -> tuple[dict[str, tuple[str, int]], int]:
    """The encoder's blocks, its middle, the decoder's middle, and its blocks. A key before or after the blocks of its half
    belongs to the nearest block, so every key has a layer."""
    matches = [m for m in map(_VAE_BLOCK.match, whole) if m]
    downs, ups = (1 + max((int(m[3]) for m in matches if m[1] == half), default=-1) for half in ("encoder", "decoder"))
    order = (*(f"down {n}" for n in range(downs)), "encoder mid", "decoder mid", *(f"up {n}" for n in range(ups)))
    layers = {}
    for key in names:
        if block := _VAE_BLOCK.match(key):
            layer = f"{block[2].split('_')[0]} {block[3]}"
        elif key.startswith("encoder.conv_in"):
            layer = order[0]
        elif key.startswith(("encoder.", "quant_conv")):
            layer = "encoder mid"
        elif key.startswith(("decoder.conv_norm_out", "decoder.conv_out")):
            layer = order[-1]
        else:
            layer = "decoder mid"
        layers[key] = layer, order.index(layer)
    return layers, len(order) - 1


def _stream_layers(family: str, names: Mapping[str, str], size: tuple[int, int]) -> tuple[dict[str, tuple[str, int]], int]:
    """Double and then single blocks, or joint blocks. The embeddings of image and text belong to the first block, the final
    layer to the last. Embeddings of time, guidance and position are in no layer."""
    first, second = size
    layers = {}
    for key, name in names.items():
        slot = slot_of("comfyui", family, "transformer", name, size)
        if slot[0] in "DSJ" and slot[1:].isdigit():
            layers[key] = slot, int(slot[1:]) + (first if slot[0] == "S" else 0)
        elif slot in _FIRST_STREAM:
            layers[key] = slot, 0
        elif slot == "final_layer":
            layers[key] = slot, first + second - 1
    return layers, first + second - 1
