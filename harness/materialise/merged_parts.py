"""Which components a merge is about: the words "denoiser" and "all" become names, and a name that a model lacks is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from harness.declare import Fused, Merge, Recipe
from harness.declare.models import ALL, DENOISER
from harness.declare.nearest import did_you_mean
from harness.declare.ways_out import parts as spelled_parts
from harness.declare.ways_out import take
from harness.materialise.encoder_files import encoders_in_place
from harness.materialise.library import Library, MaterialiseError, checkpoint_of, frame_of, leaves, name_of
from harness.merge.match_keys import model_names
from harness.weights import ModelFile
from harness.weights.model import PARTS

DENOISERS: Final = ("unet", "transformer")


def opened(model: Recipe, library: Library) -> dict[str, ModelFile]:
    """The models of a recipe by the names that it gives them, each component under its own name. Raises ModelFileError."""
    return encoders_in_place(model, library.open_alike(leaves(model)))


def with_named_parts(model: Recipe, files: Mapping[str, ModelFile]) -> Recipe:
    """The recipe with the name of each component in place of "denoiser" and "all", in all its merges. `files` holds the opened
    models by the names that recipes give them. MaterialiseError for a component that one of the merged models lacks."""
    if isinstance(model, Fused):
        return replace(model, model=with_named_parts(model.model, files))
    if not isinstance(model, Merge):
        return model
    named = replace(
        model, a=with_named_parts(model.a, files), b=with_named_parts(model.b, files),
        c=None if model.c is None else with_named_parts(model.c, files),
        more=tuple(with_named_parts(other, files) for other in model.more),
        take={part: with_named_parts(other, files) for part, other in model.take.items()}, parts=_named(model, files))
    _refuse_absent(named, model.parts, files)
    return named


def parts_of(model: Recipe, files: Mapping[str, ModelFile]) -> tuple[str, ...]:
    """The components that a model of the recipe has, those that it takes from others included."""
    if isinstance(model, Fused):
        return parts_of(model.model, files)
    own = parts_of(model.a, files) if isinstance(model, Merge) else tuple(
        part for part, keys in files[name_of(checkpoint_of(model))].components.items() if keys)
    either = {*own, *(model.take if isinstance(model, Merge) else ())}
    return tuple(part for part in PARTS if part in either)


def _named(merge: Merge, files: Mapping[str, ModelFile]) -> tuple[str, ...]:
    parts: list[str] = []
    for part in merge.parts:
        if part == ALL:
            either = {name for parent in merge.models for name in parts_of(parent, files)} - merge.take.keys()
            parts += [name for name in PARTS if name in either]
        elif part == DENOISER:
            own = parts_of(merge.a, files)
            parts += [name for name in DENOISERS if name in own] or [part]
        else:
            parts.append(part)
    return tuple(dict.fromkeys(parts))


def _refuse_absent(merge: Merge, asked: tuple[str, ...], files: Mapping[str, ModelFile]) -> None:
    """MaterialiseError for a part that one of the models lacks: it would not be merged."""
    models = dict(zip(model_names(len(merge.models), merge.c is not None), merge.models, strict=True))
    had = {name: parts_of(parent, files) for name, parent in models.items()}
    for part in merge.parts:
        lacking = [name for name in models if part not in had[name]]
        if not lacking:
            continue
        who = " and ".join(f"{name} ({name_of(frame_of(models[name]))})" for name in lacking)
        listed = "; ".join(f"{name} has {', '.join(own) or 'none'}" for name, own in had.items())
        have = "has" if len(lacking) == 1 else "have"
        raise MaterialiseError(f"{part}: {who} {have} none, and the recipe merges it{_because(part, asked)}. {listed}. "
                               f"{guesses(files[name_of(frame_of(model))] for model in models.values())}"
                               f"{_way_out(merge, part, had, models)}")


def guesses(files: Iterable[ModelFile]) -> str:
    """What files that are no models most probably are, in sentences that end with a space; "" for models."""
    return "".join(f"{file.path.name} is {file.guess}. " for file in files if file.guess)


def _because(part: str, asked: tuple[str, ...]) -> str:
    """Where the name comes from if it was not given."""
    return "" if part in asked and part != DENOISER else " (parts is \"all\")" if ALL in asked else " (the default of parts)"


def _way_out(merge: Merge, part: str, had: Mapping[str, tuple[str, ...]], models: Mapping[str, Recipe]) -> str:
    common = [name for name in PARTS if all(name in own for own in had.values())]
    if not common:
        return "These models have no component in common"
    remaining = tuple(name for name in merge.parts if name in common) or tuple(common)
    question = did_you_mean(part, common, list_known=False)
    way = f"{question + ' ' if question else ''}Give {spelled_parts(remaining)}"
    having = next((name_of(frame_of(models[name])) for name, own in had.items() if part in own), "")
    if part not in had["A"] and having and part not in DENOISERS:
        way += f", or take it whole: {take(part, having)}"
    return way
