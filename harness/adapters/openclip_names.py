"""OpenCLIP's names for the layers of the text encoders of Stable Diffusion 2 and XL.

OpenCLIP has the three projections of an attention in one module.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

_OURS: Final = re.compile(r"(text_model\.)?encoder\.layers\.(\d{1,3})\.")
_THEIRS: Final = re.compile(r"(model\.)?transformer\.resblocks\.(\d{1,3})\.")
_LAYER: Final = (("attn.in_proj", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
                 ("attn.out_proj", ("self_attn.out_proj",)), ("mlp.c_fc", ("mlp.fc1",)), ("mlp.c_proj", ("mlp.fc2",)),
                 ("ln_1", ("layer_norm1",)), ("ln_2", ("layer_norm2",)))
_TOP: Final = (("token_embedding", "embeddings.token_embedding"), ("ln_final", "final_layer_norm"))


def openclip_names(paths: Collection[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(OpenCLIP's module, transformers' modules that hold its rows, in order), for a text encoder with names of either.

    The model's own names keep their prefix (`text_model.`, `model.`); the other side is given in both spellings.
    text_projection is left out: OpenCLIP stores it transposed, so a change under that name would be wrong.
    """
    prefixed_layers = {(ours[1] or "", ours[2]) for path in paths if (ours := _OURS.match(path))}
    theirs = {(other[1] or "", other[2]) for path in paths if (other := _THEIRS.match(path))}
    for prefix, stem in [("model.", stem) for stem in sorted({stem for stem, _ in prefixed_layers})] + [
            ("", stem) for stem in sorted({stem for stem, _ in prefixed_layers})]:
        yield from _names(prefix, stem, sorted(number for own, number in prefixed_layers if own == stem))
    for prefix in sorted({prefix for prefix, _ in theirs}):
        yield from _names(prefix, "", sorted(number for own, number in theirs if own == prefix))


def _names(prefix: str, stem: str, numbers: Collection[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, ours in _TOP:
        yield f"{prefix}{name}", (f"{stem}{ours}",)
    for number in numbers:
        for name, parts in _LAYER:
            yield (f"{prefix}transformer.resblocks.{number}.{name}",
                   tuple(f"{stem}encoder.layers.{number}.{part}" for part in parts))
