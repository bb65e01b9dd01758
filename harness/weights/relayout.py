"""A transformer in the names of another model's layout: Flux and Stable Diffusion 3 in the original code's names, where query,
key and value are one tensor, and in diffusers'. No weight is read; the tensors are described as rows of the stored ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from harness.weights.files import DTYPE_BYTES, ModelFileError
from harness.weights.model import ModelFile, TensorInfo
from harness.weights.transformer_names import Pair, halves, heights_of, is_original, pairs_of

_COMPONENT: Final = "transformer"
_POSITIONS: Final = {"pos_embed": "pos_embed.pos_embed"}
"""Stable Diffusion 3's table of positions, the one tensor that is no module's."""
_BY_TEXT: Final = "context_block.adaLN_modulation.1"

Infos = Mapping[str, TensorInfo]


def in_names_of(model: ModelFile, other: ModelFile) -> ModelFile:
    """`model` with its transformer in the names of `other`, if their layouts differ.

    Raises ModelFileError for a tensor that the other layout has no name for, and for a tensor of the other layout of which
    `model` has only a part.
    """
    mine, theirs = model.components.get(_COMPONENT), other.components.get(_COMPONENT)
    if not mine or not theirs or model.structural or other.structural or is_original(mine) == is_original(theirs):
        return model
    shapes = {key.rpartition(".")[0]: info.shape for infos in (theirs, mine) for key, info in infos.items()
              if key.endswith(".weight")}
    renamed = _renamed(model, theirs, list(pairs_of(shapes, other.family or model.family)), shapes)
    return replace(model, layout=other.layout, components={**model.components, _COMPONENT: renamed})


def in_diffusers_names(model: ModelFile) -> ModelFile:
    """`model` with its transformer in diffusers' names, which live modules have. Raises ModelFileError for a tensor that has no
    such name."""
    mine = model.components.get(_COMPONENT)
    if not mine or model.structural or not is_original(mine):
        return model
    shapes = {key.rpartition(".")[0]: info.shape for key, info in mine.items() if key.endswith(".weight")}
    renamed = _renamed(model, {}, list(pairs_of(shapes, model.family)), shapes)
    return replace(model, layout="diffusers", components={**model.components, _COMPONENT: renamed}, stored=model)


def _renamed(model: ModelFile, theirs: Infos, pairs: Sequence[Pair], shapes: Mapping[str, tuple[int, ...]]) -> Infos:
    mine = model.components[_COMPONENT]
    split = is_original(mine)
    renamed: dict[str, TensorInfo] = {}
    used: set[str] = set()
    for ours, diffusers in _POSITIONS.items():
        old, new = (ours, diffusers) if split else (diffusers, ours)
        if old in mine:
            renamed[new] = mine[old]
            used.add(old)
    for pair in pairs:
        for leaf in ("weight", "bias", "scale"):
            keys = [f"{path}.{leaf}" for path in ((pair.original,) if split else pair.diffusers)]
            if not any(key in mine for key in keys):
                continue
            if pair.original.endswith(_BY_TEXT) and not {pair.original, *pair.diffusers} & shapes.keys():
                raise ModelFileError(f"{model.path}: the other model's layout may have the halves of {keys[0]!r} swapped; only "
                                     "the weight beside it tells, and both models lack it. Give a file that has it.")
            used.update(keys)
            renamed.update(_split(model, pair, keys[0], theirs, shapes) if split else [_joined(model, pair, keys, theirs)])
    if unknown := next((key for key in mine if key not in used), ""):
        raise ModelFileError(f"{model.path}: transformer: {unknown!r} has no name in the layout of the other model. Give two "
                             "models of one layout.")
    return renamed


def _split(model: ModelFile, pair: Pair, key: str, theirs: Infos, shapes: Mapping[str, tuple[int, ...]]
           ) -> Iterator[tuple[str, TensorInfo]]:
    """The diffusers tensors that a tensor of the original layout holds."""
    info = model.components[_COMPONENT][key]
    leaf = "weight" if key.endswith(".scale") else key.rpartition(".")[2]
    names = [f"{path}.{leaf}" for path in pair.diffusers]
    if len(names) == 1:
        yield names[0], _swapped(info) if pair.swapped else info
        return
    if all(name in theirs for name in names):
        heights = tuple(theirs[name].shape[0] for name in names)
    else:
        heights = heights_of(pair, shapes.get(pair.original, info.shape)) or _thirds(pair, info)
    if not heights or sum(heights) != info.shape[0]:
        raise ModelFileError(f"{model.path}: transformer: {key!r} has {info.shape[0]} rows; expected the rows of "
                             f"{', '.join(names)}, one after the other. Give models of one size.")
    start = 0
    for name, height in zip(names, heights, strict=True):
        yield name, rows_of(info, start, start + height)
        start += height


def _joined(model: ModelFile, pair: Pair, keys: Sequence[str], theirs: Infos) -> tuple[str, TensorInfo]:
    """The tensor of the original layout that these diffusers tensors make up."""
    mine = model.components[_COMPONENT]
    if lacking := next((key for key in keys if key not in mine), ""):
        there = next(key for key in keys if key in mine)
        raise ModelFileError(f"{model.path}: transformer: has {there!r} and lacks {lacking!r}, and the other model keeps both in "
                             f"one tensor, {pair.original!r}. Give a file with both.")
    leaf = keys[0].rpartition(".")[2]
    # Black Forest Labs call the weight of a norm its scale; some tools rename it.
    if leaf == "weight" and pair.original.endswith("_norm") and f"{pair.original}.weight" not in theirs:
        leaf = "scale"
    infos = [mine[key] for key in keys]
    return f"{pair.original}.{leaf}", _swapped(infos[0]) if pair.swapped else stacked(infos)


def _thirds(pair: Pair, info: TensorInfo) -> tuple[int, ...]:
    count = len(pair.diffusers)
    return () if pair.rest or not info.shape or info.shape[0] % count else (info.shape[0] // count,) * count


def rows_of(info: TensorInfo, begin: int, end: int) -> TensorInfo:
    skipped = begin * math.prod(info.shape[1:]) * DTYPE_BYTES[info.dtype]
    first = info.rows[0] if info.rows else 0
    return replace(info, shape=(end - begin, *info.shape[1:]), rows=(first + begin, first + end),
                   offset=None if info.offset is None else info.offset + skipped)


def _swapped(info: TensorInfo) -> TensorInfo:
    return stacked([rows_of(info, begin, end) for begin, end in halves(info.shape[0])])


def stacked(infos: Sequence[TensorInfo]) -> TensorInfo:
    if len(infos) == 1:
        return infos[0]
    if len({info.shape[1:] for info in infos}) > 1:
        raise ModelFileError(f"{infos[0].file}: {', '.join(repr(info.source) for info in infos)} have shapes "
                             f"{', '.join(str(list(info.shape)) for info in infos)}; expected the same columns, since the other "
                             "model keeps them in one tensor. Give models of one size.")
    dtypes = {info.dtype for info in infos}
    mixed = len(dtypes) > 1 or any(info.scale for info in infos)
    return TensorInfo(source=infos[0].source, file=infos[0].file, parts=tuple(infos), dtype="F32" if mixed else infos[0].dtype,
                      shape=(sum(info.shape[0] for info in infos), *infos[0].shape[1:]))
