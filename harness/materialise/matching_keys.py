"""How many tensors two denoisers have in common by name and shape, and the refusal of architectures that have too little."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from harness.materialise.library import MaterialiseError
from harness.materialise.merged_parts import guesses
from harness.weights import ModelFile
from harness.weights.structural import COMPONENT


def architecture_of(file: ModelFile) -> str:
    """What a model is, for readers."""
    return file.architecture or file.family or "unknown family"


def match_note(component: str, frame: ModelFile, matching: int, keys: int) -> str:
    """The note on a component that is merged by the names and shapes of its tensors."""
    known = f"{frame.architecture}:" if frame.architecture else "unknown family,"
    return f"{component}: {known} {matching:,} of {keys:,} keys match"


def keys_in_common(files: Mapping[str, ModelFile]) -> str:
    """How many tensors of the first model's denoiser the others have in the same shape, in a sentence that ends with a space; ""
    for models without transformers."""
    (first, a), *others = files.items()
    mine = a.components.get(COMPONENT, {})
    theirs = {name: file.components.get(COMPONENT, {}) for name, file in others}
    if not mine or not any(theirs.values()):
        return ""
    counts = ", ".join(f"{sum(key in keys and keys[key].shape == info.shape for key, info in mine.items()):,} in {name} "
                       f"({architecture_of(files[name])})" for name, keys in theirs.items() if keys)
    return f"Of the {len(mine):,} keys of {first} ({architecture_of(a)}) the same are {counts}. "


def refuse_unlike_architectures(files: Mapping[str, ModelFile]) -> None:
    """Raises MaterialiseError for models of one merge whose denoisers are of different architectures, or of one in different
    names. A part of a model may not show what it is: it counts as one of the others' if they have any of its names."""
    transformers = {name: file for name, file in files.items() if file.components.get(COMPONENT)}
    if not any(file.structural for file in transformers.values()):
        return
    first, a = next(iter(transformers.items()))
    for name, file in islice(transformers.items(), 1, None):
        pair = {first: a, name: file}
        one, two = a.recognised, file.recognised
        if (one and two and one.row != two.row) or (not a.components[COMPONENT].keys() & file.components[COMPONENT].keys() and (
                one is None or two is None)):
            raise MaterialiseError(f"{first} is {architecture_of(a)}, {name} is {architecture_of(file)}: different "
                                   f"architectures. {keys_in_common(pair)}{guesses(pair.values())}Merge models of one "
                                   "architecture.")
        if one and two and one.names != two.names:
            raise MaterialiseError(
                f"{first} and {name} are both {one.row.name}, but {first} has the names of {one.names.by}, and {name} those of "
                f"{two.names.by}. {keys_in_common(pair)}Give both in the same names: both as diffusers has them, or both as "
                "single files of its authors.")
