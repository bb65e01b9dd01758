"""The depth of each key in its model: the order of the layers of U-Nets, text encoders, VAEs and transformers, and of the
numbered layers of any other model."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from harness.merge.blocks import DENOISERS, WhereError, counts, slot_of, unet_blocks

_TEXT_LAYER: Final = re.compile(r"(?:.*\.)?(?:layers|block|resblocks)\.(\d+)\.")
_VAE_BLOCK: Final = re.compile(r"(encoder|decoder)\.(down_blocks|up_blocks)\.(\d+)\.")
_NUMBERED: Final = re.compile(r"(.+?)\.([0-9]{1,4})\.(.+)")
"""What precedes the first number in a name, the number, and what follows it."""
_FEWEST: Final = 4
"""Tensors of a numbered module that counts as a layer. Steps of a sequence have a weight and a bias."""
_EARLY: Final = frozenset({"refiner", "double", "joint", "early", "input", "in", "down", "encoder", "text", "txt", "context"})
_LATE: Final = frozenset({"single", "output", "out", "up", "decoder", "late", "post", "final"})
"""Words in the names of layers that are executed before and after others."""
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


def numbered_layers(component: str, names: Collection[str], whole: Collection[str], known: Sequence[str]
                    ) -> tuple[dict[str, tuple[str, float]], int]:
    """The same for a component of a model without a family, whose names are those of its file. `known` is what precedes the
    numbers of its layers, as executed (without numbers it is one layer); empty: what the names themselves show. Text encoders
    of one component work side by side, so each begins at 0 and ends at the last. Raises WhereError for names without numbered
    layers."""
    if component == "vae" and any(map(_VAE_BLOCK.match, whole)):
        blocks, last = _vae_layers(names, whole)
        return {key: (slot, float(index)) for key, (slot, index) in blocks.items()}, last
    own = _numbers(whole)
    here = [stack for stack in known if any(name.startswith(f"{stack}.") for name in whole)]
    counts = {stack: 1 + max(own.get(stack, {0: ""})) for stack in here or _stacks(whole)}
    if not counts:
        raise WhereError(f"a gradient needs numbered layers, and the names of {component} show none; give one number, or Alphas "
                         f"with keys, as {_pattern(whole)!r}")
    beside = component not in DENOISERS and component != "vae"
    last = max(counts.values()) - 1 if beside else sum(counts.values()) - 1
    layers: dict[str, tuple[str, float]] = {}
    start = 0
    for stack, count in counts.items():
        for key in names:
            if key.startswith(f"{stack}."):
                number = key[len(stack) + 1:].partition(".")[0] if stack in own else ""
                place = int(number) if number.isdigit() else 0
                depth = place * last / max(count - 1, 1) if beside else start + place
                layers[key] = f"{stack}.{number}" if number.isdigit() else stack, float(depth)
        start += count
    return layers, last


def _pattern(names: Collection[str]) -> str:
    """A pattern that matches some of these names."""
    return f"{min(names, default='').partition('.')[0]}*"


def pattern_of_layer(names: Collection[str], known: Sequence[str]) -> str:
    """A pattern for the tensors of one layer, like "blocks.0.*"."""
    own = _numbers(names)
    stack = next((stack for stack in [*known, *_stacks(names)] if 0 in own.get(stack, ())), "")
    return f"{stack}.0.*" if stack else _pattern(names)


def _numbers(names: Collection[str]) -> dict[str, dict[int, set[str]]]:
    """{what precedes a number: {number: the names behind it}}."""
    inside: dict[str, dict[int, set[str]]] = {}
    for name in names:
        if match := _NUMBERED.match(name):
            inside.setdefault(match[1], {}).setdefault(int(match[2]), set()).add(match[3])
    return inside


def _stacks(names: Collection[str]) -> list[str]:
    """What precedes the numbers of layers: modules that are numbered from 0 and are made of modules with mostly the same names.
    Those with words for the beginning of a model come first, otherwise they are in alphabetical order."""
    stacks = [stack for stack, layers in sorted(_numbers(names).items()) if _are_layers(layers)]
    words = {stack: set(re.split(r"[._]", stack)) for stack in stacks}
    return sorted(stacks, key=lambda stack: 0 if words[stack] & _EARLY else 2 if words[stack] & _LATE else 1)


def _are_layers(inside: Mapping[int, set[str]]) -> bool:
    common = set.intersection(*inside.values())
    return (len(inside) > 1 and set(inside) == set(range(len(inside))) and any("." in name for name in common)
            and all(_FEWEST <= len(names) <= 2 * len(common) for names in inside.values()))


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
