"""The names that files may use for a model's modules, in tables built from the model: names are looked up, never decoded. A
name from a transformer's other layout maps to rows of the model's weights."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from harness.adapters.adapter_file import quoted
from harness.adapters.change import Shapes
from harness.adapters.live_plan import AdapterError
from harness.adapters.openclip_names import openclip_names
from harness.adapters.original_names import original_names
from harness.declare.nearest import closest
from harness.weights.transformer_names import Pair, halves, heights_of, pairs_of

TEXT_MODEL: Final = "text_model."
QKV_OF_LINEAR1: Final = "qkv"
"""`single_blocks.N.linear1.qkv` is not a module: XLabs' files use this name to change only the rows of qkv in linear1."""


def is_t5(paths: Iterable[str]) -> bool:
    """Whether these modules of a text encoder are those of a T5."""
    return any(path == "shared" or path.startswith(("encoder.block.", "encoder.final_layer_norm")) for path in paths)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where rows of a file's module go: its `rows`, in this order (empty: all), to rows `at` of `path` (None: all)."""

    path: str
    rows: tuple[tuple[int, int], ...] = ()
    at: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Target:
    """A module in a file: the shape of its weight there, and its places in the model.

    `fused` are the heights of the parts of a weight that holds several layers' rows, empty for a single layer.
    """

    shape: tuple[int, ...]
    places: tuple[Place, ...]
    fused: tuple[int, ...] = ()


Table: TypeAlias = dict[str, Target]


def tables(shapes: Shapes, family: str, *, paired: bool = True) -> dict[str, Table]:
    """{component: {dotted name: target}} for every known spelling. A transformer that is not `paired` has its own names alone:
    what Flux.1 and Stable Diffusion 3 call the like of its modules may be another model's."""
    return {component: _table(component, modules, family, paired=paired) for component, modules in shapes.items()}


def underscored(table: Table) -> Table:
    """The table with underscores for dots, as in kohya's and OneTrainer's files. Raises AdapterError if one of these names
    means two modules, so that files that use it are ambiguous."""
    flat: Table = {}
    for name, target in table.items():
        if flat.setdefault(name.replace(".", "_"), target) != target:
            raise AdapterError(f"the name {name.replace('.', '_')!r} means two modules of this model, one of them {name}; give "
                               "the adapter in a format with dotted names")
    return flat


def missing(file: str, key: str, name: str, component: str, table: Collection[str]) -> AdapterError:
    """The error for a key whose module the model does not have, although it has the component."""
    near = next(iter(closest(name, table, cutoff=0.0)), "")
    return AdapterError(f"{file}: key {quoted(key)} names no module of {component}; " + (
        f"the nearest is {near!r}" if near else f"{component} has no modules to adapt") +
        ". The file is for another model, or damaged.")


def _table(component: str, modules: Mapping[str, tuple[int, ...]], family: str, *, paired: bool) -> Table:
    table = {path: Target(shape=tuple(shape), places=(Place(path=path),)) for path, shape in modules.items()}
    if component == "unet":
        _add(table, ((name, table[path]) for path, name in original_names(modules, family).items()))
    elif component == "transformer" and paired:
        _add(table, _other_layout(modules, family))
    elif component.startswith("text_encoder"):
        _add(table, _paired(modules, (Pair(original=theirs, diffusers=ours) for theirs, ours in openclip_names(modules))))
        # transformers 5 dropped "text_model." from CLIPTextModel and kept it in CLIPTextModelWithProjection.
        _add(table, ((path.removeprefix(TEXT_MODEL) if path.startswith(TEXT_MODEL) else TEXT_MODEL + path, target)
                     for path, target in list(table.items())))
    return table


def _add(table: Table, names: Iterator[tuple[str, Target]]) -> None:
    for name, target in names:
        if table.setdefault(name, target) != target:
            raise AdapterError(f"the name {name!r} means two modules of this model")


def _other_layout(modules: Mapping[str, tuple[int, ...]], family: str) -> Iterator[tuple[str, Target]]:
    return _paired(modules, pairs_of(modules, family))


def in_other_layout(modules: Mapping[str, tuple[int, ...]], family: str) -> dict[str, tuple[int, ...]]:
    """{path: shape of its weight} of a transformer's modules in the layout that it does not have: the original one, or
    diffusers'. Modules with missing parts are left out."""
    both = {pair.original for pair in pairs_of(modules, family) if pair.diffusers == (pair.original,)}
    other = {name: target.shape for name, target in _other_layout(modules, family)
             if not name.endswith(f"linear1.{QKV_OF_LINEAR1}")}
    return {**{path: tuple(shape) for path, shape in modules.items() if path in both}, **other}


def _paired(modules: Mapping[str, tuple[int, ...]], pairs: Iterable[Pair]) -> Iterator[tuple[str, Target]]:
    """The names of the layout that the model does not use, for every pair of which it has one side."""
    for pair in pairs:
        if pair.original in modules:
            yield from _of_original(pair, tuple(modules[pair.original]))
        elif all(part in modules for part in pair.diffusers):
            yield from _of_diffusers(pair, [tuple(modules[part]) for part in pair.diffusers])


def _of_original(pair: Pair, shape: tuple[int, ...]) -> Iterator[tuple[str, Target]]:
    """The diffusers names of a module that the model has in the original layout, and its own name with its parts."""
    heights = heights_of(pair, shape)
    if len(pair.diffusers) == 1:
        rows = halves(shape[0]) if pair.swapped else ()
        if pair.diffusers[0] != pair.original:
            yield pair.diffusers[0], Target(shape=shape, places=(Place(path=pair.original, rows=rows),))
        return
    if not heights:
        return
    starts = [sum(heights[:number]) for number in range(len(heights))]
    for name, start, height in zip(pair.diffusers, starts, heights, strict=True):
        yield name, Target(shape=(height, *shape[1:]),
                           places=(Place(path=pair.original, at=(start, start + height)),))
    if pair.rest:
        yield f"{pair.original}.{QKV_OF_LINEAR1}", Target(
            shape=(starts[3], *shape[1:]), places=(Place(path=pair.original, at=(0, starts[3])),), fused=heights[:3])


def fused_heights(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The heights of the parts of a fused module of the original layout, by its last name; empty for other modules."""
    last = name.replace("_", ".").rpartition(".")[2]
    if last == "linear1":
        return heights_of(Pair(original="", diffusers=("",) * 4, rest=True), shape)
    return heights_of(Pair(original="", diffusers=("",) * 3), shape) if last == "qkv" else ()


def _of_diffusers(pair: Pair, shapes: list[tuple[int, ...]]) -> Iterator[tuple[str, Target]]:
    """The original name of modules that the model has in diffusers' layout."""
    if pair.original == pair.diffusers[0]:
        return
    if len(pair.diffusers) == 1:
        rows = halves(shapes[0][0]) if pair.swapped else ()
        yield pair.original, Target(shape=shapes[0], places=(Place(path=pair.diffusers[0], rows=rows),))
        return
    if len({shape[1:] for shape in shapes}) != 1:
        return
    heights = tuple(shape[0] for shape in shapes)
    starts = [sum(heights[:number]) for number in range(len(heights))]
    places = tuple(Place(path=path, rows=((start, start + height),))
                   for path, start, height in zip(pair.diffusers, starts, heights, strict=True))
    yield pair.original, Target(shape=(sum(heights), *shapes[0][1:]), places=places, fused=heights)
    if pair.rest:
        yield f"{pair.original}.{QKV_OF_LINEAR1}", Target(shape=(starts[3], *shapes[0][1:]), places=places[:3], fused=heights[:3])


def traversal(component: str, paths: Collection[str], old_order: bool) -> list[str]:
    """The modules in the order in which cloneofsimo's trainer visited them: down, up, then middle blocks; per block the
    first attention, the feed-forward's first layer (only with `old_order`), the second attention; in text encoders k, v, q,
    out."""
    by_end: dict[tuple[int, ...], str] = {}
    if component == "unet":
        pattern = re.compile(r"(down|up|mid)_blocks?\.(?:(\d+)\.)?attentions\.(\d+)\.transformer_blocks\.(\d+)\.(.+)")
        inner = [f"attn1.{part}" for part in ("to_q", "to_k", "to_v", "to_out.0")]
        inner += ["ff.net.0.proj"] if old_order else []
        inner += [f"attn2.{part}" for part in ("to_q", "to_k", "to_v", "to_out.0")]
        for path in paths:
            if (found := pattern.fullmatch(path)) and found[5] in inner:
                by_end[["down", "up", "mid"].index(found[1]), int(found[2] or 0), int(found[3]), int(found[4]),
                       inner.index(found[5])] = path
    else:
        inner = ["k_proj", "v_proj", "q_proj", "out_proj"]
        for path in paths:
            if (found := re.search(r"layers\.(\d+)\.self_attn\.(\w+)$", path)) and found[2] in inner:
                by_end[int(found[1]), inner.index(found[2])] = path
    return [by_end[place] for place in sorted(by_end)]

