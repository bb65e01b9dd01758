"""Text encoders that are files of their own: such a file does not say of which model it is which encoder, so the recipe does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.declare import Model
from harness.materialise.library import frame_of, leaves, merges_of, name_of
from harness.weights import ModelFile
from harness.weights.naming import PROJECTION


def encoders_in_place(model: Model, files: Mapping[str, ModelFile]) -> dict[str, ModelFile]:
    """The opened models of a recipe, by name. A file that is nothing but a text encoder has the name of the part that the recipe
    merges, or takes from it."""
    parts_by_name: dict[str, list[str]] = {}
    for merge in merges_of(model):
        texts = [part for part in merge.parts if part.startswith("text_encoder")]
        for parent in merge.models if len(texts) == 1 else ():
            for leaf in leaves(parent):
                parts_by_name.setdefault(name_of(leaf), []).extend(texts)
        for part, taken in merge.take.items():
            for leaf in leaves(taken):
                parts_by_name.setdefault(name_of(leaf), []).append(part)
    frame = files[name_of(frame_of(model))]
    return {name: _renamed(file, parts_by_name.get(name, ()), frame) for name, file in files.items()}


def _renamed(file: ModelFile, parts: list[str] | tuple[str, ...], frame: ModelFile) -> ModelFile:
    wanted = [part for part in dict.fromkeys(parts) if part.startswith("text_encoder")]
    if not file.encoder_alone or not wanted:
        return file
    (own, infos), = file.components.items()
    components = {}
    for part in wanted:
        # Files of the first encoder may hold the projection of the CLIP that it was trained in, which no model uses.
        unused = PROJECTION in infos and part in frame.components and PROJECTION not in frame.components[part]
        components[part] = {key: info for key, info in infos.items() if not (unused and key == PROJECTION)}
    odd = dict.fromkeys(wanted, file.odd[own]) if own in file.odd else {}
    return replace(file, components=components, odd=odd)
