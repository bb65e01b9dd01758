"""How a candidate's prompts are embedded: with the words of its textual inversions, emphasis and an aesthetic gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.adapters import Reading
from harness.declare import Adapter, Candidate
from harness.materialise.library import Library, MaterialiseError
from harness.metrics.clip_reference import weights_of
from harness.text import Aesthetic, Treatment, Word, read_aesthetic
from harness.weights import ModelFileError, open_tensors
from harness.weights.wrapped_names import without_wrapping

if TYPE_CHECKING:
    from torch import Tensor


def treatment_of(candidate: Candidate, library: Library, readings: Sequence[Reading], clip_skip: int | None = None) -> Treatment:
    """The treatment of positive prompts. `readings` are those of the active adapters, `clip_skip` is that of Sampling. Raises
    MaterialiseError for a word that two files define, and for an aesthetic gradient that does not fit its CLIP model."""
    words = [Word(component=e.component, token=e.token, vectors=e.vectors, file_word=e.file_word)
             for reading in readings for e in reading.embeddings]
    # Prompts are read in lower case, so "Sks" and "sks" are one word.
    places = [(word.component, word.token.lower()) for word in words]
    if twice := next((token for component, token in places if places.count((component, token)) > 1), ""):
        raise MaterialiseError(f"the word {twice!r} is defined by two textual inversions; use one of them")
    treatment = Treatment(words=tuple(words), clip_skip=None if clip_skip == 1 else clip_skip)
    if candidate.aesthetic is not None:
        given = candidate.aesthetic
        projection = text_projection(library.path(weights_of(given.clip)))
        embedding = read_aesthetic(library.path(given.path))
        if len(embedding) != projection.shape[1]:
            raise MaterialiseError(f"aesthetic gradient {given.path!r} holds {len(embedding)} numbers, but clip {given.clip!r} "
                                   f"projects to {projection.shape[1]}; give the CLIP model that it was made with")
        aesthetic = Aesthetic(embedding=embedding, projection=projection, weight=given.weight, steps=given.steps, rate=given.rate)
        treatment = replace(treatment, aesthetic=aesthetic)
    if candidate.emphasis is not None:
        treatment = replace(treatment, weights=candidate.emphasis.weights, method=candidate.emphasis.method)
    return treatment


def text_projection(path: Path) -> Tensor:
    """The projection (width, dim) of pooled text states into CLIP's space, from an open_clip or transformers file. Raises
    MaterialiseError for a file without one."""
    import torch

    try:
        file = open_tensors(path)
        names = {without_wrapping(name): name for name in file.stored}
        for key in ("text_projection", "text.text_projection", "text_projection.weight"):
            if key in names and len(file.stored[names[key]].shape) == 2:
                # A copy: a later write to a mapped file would change a view of it.
                projection = file.read([names[key]])[names[key]].to(dtype=torch.float32, copy=True)
                # transformers keeps it as the weight of a layer, (dim, width).
                return projection.T if key.endswith(".weight") else projection
    except ModelFileError as error:
        raise MaterialiseError(f"{path}: cannot be read as a CLIP model ({error})") from error
    raise MaterialiseError(f"{path}: holds no text_projection; expected the CLIP model that the aesthetic gradient was made with")


def said_of(adapter: Adapter) -> list[str]:
    """How an adapter is applied, as phrases for the coverage."""
    phrases = [f"weight {adapter.weight:g}"]
    if adapter.blocks is not None:
        phrases.append(f"blocks {adapter.blocks}")
    if (adapter.start, adapter.end) != (0, 1):
        phrases.append(f"steps from {adapter.start:g} to {adapter.end:g} of the way")
    return phrases
