"""The names by which the blocks and layers of a model are counted, where the model is a part of one: those of the models beside
it, else the published number of blocks."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from harness.merge.blocks import last_blocks
from harness.weights import ModelFile

_NUMBER = re.compile(r"([a-z_]*blocks)\.([0-9]{1,3})\.")
_ENDS = (("img_in.", "x_embedder.", "pos_embed"), ("final_layer.", "proj_out."))


def denoiser_names(file: ModelFile, beside: Iterable[ModelFile] = ()) -> tuple[str, ...]:
    """The single-file names of a model's U-Net or the names of its transformer: its own if no block is missing."""
    own = _names(file)
    others = [_names(other) for other in beside if other is not file]
    if not own or _is_whole(file):
        return own
    more = tuple(name for names in others for name in names)
    if any(_is_whole(other) for other in beside):
        return (*own, *more)
    return (*own, *more, *last_blocks(file.family))


def component_names(component: str, file: ModelFile, beside: Iterable[ModelFile] = ()) -> tuple[str, ...]:
    """The names of a VAE's or text encoder's tensors, its own and those that the models beside it have."""
    names = (*file.components.get(component, ()), *(name for other in beside for name in other.components.get(component, ())))
    if component != "vae":
        return names
    last = file.numbering.level_count - 1
    return (*names, f"encoder.down_blocks.{last}.", f"decoder.up_blocks.{last}.")


def _names(file: ModelFile) -> tuple[str, ...]:
    return tuple(file.original_unet_names.values()) or tuple(file.components.get("transformer", ()))


def _is_whole(file: ModelFile) -> bool:
    if "unet" in file.components:
        return file.numbering.whole
    return _whole_transformer(file.components.get("transformer", ()))


def _whole_transformer(names: Collection[str]) -> bool:
    """Whether no number of a block is missing, and both ends are there."""
    numbers: dict[str, set[int]] = {}
    for name in names:
        if match := _NUMBER.match(name):
            numbers.setdefault(match[1], set()).add(int(match[2]))
    return bool(numbers) and all(found == set(range(len(found))) for found in numbers.values()) and all(
        any(name.startswith(end) for name in names) for end in _ENDS)
