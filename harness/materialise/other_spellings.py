"""Patterns for keys in the spellings of other tools and of the files themselves: which tensors a pattern means that matches none
of the names that recipes use, and the nearest spelling for one that means none."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from harness.merge.alpha_by_key import spellings_of
from harness.merge.blocks import DENOISERS, single_file_name
from harness.weights import ModelFile, ldm
from harness.weights.families import FAMILIES, TEXT_PARTS
from harness.weights.naming import openclip_name
from harness.weights.transformer_names import pairs_of
from harness.weights.wrapped_names import plain_name

_PREFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "unet": (ldm.UNET_PREFIX, "diffusion_model."), "transformer": (ldm.UNET_PREFIX, "diffusion_model."),
    "vae": (ldm.VAE_PREFIX,)}
_CLIP: Final = ("embeddings.", "encoder.layers.", "final_layer_norm.", "text_projection")

Spelling = tuple[str, ...]
"""Names that together are one tensor here: mostly one, or the names of the parts of a tensor that another layout divides."""
Spellings = dict[str, dict[str, set[Spelling]]]
"""By component and key."""


def keys_elsewhere(patterns: Iterable[str], models: Sequence[ModelFile], parts: Collection[str]
                   ) -> dict[str, dict[str, frozenset[str]]]:
    """{pattern: {component: keys}} for patterns that match no name that recipes use. The names in the files of the models come
    first, then those that other tools give to the same tensors. The first model is A; `parts` are those that are merged."""
    open_patterns = [pattern for pattern in patterns if not _matched(pattern, _usual(models[0], parts))]
    keys: dict[str, dict[str, frozenset[str]]] = {}
    for spellings in (_in_files, _of_tools) if open_patterns else ():
        names = spellings(models, parts)
        for pattern in [pattern for pattern in open_patterns if pattern not in keys]:
            if by_component := _matched(pattern, names):
                keys[pattern] = by_component
    return keys


def nearest_spelling(pattern: str, models: Sequence[ModelFile], parts: Collection[str]) -> str:
    """A question or a statement that names what a pattern without any match may mean; "" if nothing is near."""
    expression = re.compile(fnmatch.translate(pattern))
    names: dict[str, str] = {}
    for spellings in (_usual(models[0], parts), _in_files(models, parts), _of_tools(models, parts)):
        for by_key in spellings.values():
            for key, groups in by_key.items():
                for group in groups:
                    if any(map(expression.match, group)):
                        return f" A has {_first(expression, group)!r} in one tensor with others; write {key!r}."
                    names.update(dict.fromkeys(group, key))
    return _by_words(pattern, names)


def _first(expression: re.Pattern[str], group: Spelling) -> str:
    return next(name for name in group if expression.match(name))


def _by_words(pattern: str, names: Iterable[str]) -> str:
    """The pattern with the words exchanged in which it differs from the name that shares most words with it."""
    words = pattern.split(".")
    best, least = "", len(words) // 2
    for name in names:
        others = name.split(".")
        if len(others) != len(words):
            continue
        equal = sum(fnmatch.fnmatchcase(other, word) for other, word in zip(others, words, strict=True))
        if equal > least:
            best, least = name, equal
    if not best:
        return ""
    proposal = ".".join(word if fnmatch.fnmatchcase(other, word) else other
                        for other, word in zip(best.split("."), words, strict=True))
    return f" Did you mean {proposal!r}?"


def _matched(pattern: str, spellings: Spellings) -> dict[str, frozenset[str]]:
    expression = re.compile(fnmatch.translate(pattern))
    keys = {component: frozenset(key for key, groups in by_key.items() if any(all(map(expression.match, group))
                                                                              for group in groups))
            for component, by_key in spellings.items()}
    return {component: some for component, some in keys.items() if some}


def _usual(a: ModelFile, parts: Collection[str]) -> Spellings:
    unet = a.original_unet_names
    return {part: {key: {(name,) for name in spellings_of(part, key, _short(a, part, key, unet))} for key in infos}
            for part, infos in a.components.items() if part in parts}


def _short(a: ModelFile, part: str, key: str, unet: Mapping[str, str]) -> str:
    return single_file_name(a.family, unet.get(key, key)) if part in DENOISERS else key


def _in_files(models: Sequence[ModelFile], parts: Collection[str]) -> Spellings:
    """The names in the files, and the same without the words of training tools and without the prefix of the component."""
    spellings: Spellings = {}
    for model in models:
        for part, infos in model.components.items():
            if part not in parts or part not in models[0].components:
                continue
            for key, info in infos.items():
                sources = tuple(dict.fromkeys(one.source for one in info.parts or (info,)))
                plain = tuple(plain_name(source, model.wrapper) for source in sources)
                groups = spellings.setdefault(part, {}).setdefault(key, set())
                groups.update((sources, plain))
                for prefix in _prefixes(part, model.family):
                    if all(name.startswith(prefix) for name in plain):
                        groups.update(_behind(part, tuple(name.removeprefix(prefix) for name in plain)))
    return spellings


def _of_tools(models: Sequence[ModelFile], parts: Collection[str]) -> Spellings:
    """The names that the original code, transformers, OpenCLIP and diffusers give to the tensors."""
    a = models[0]
    spellings: Spellings = {}
    for part, infos in a.components.items():
        if part not in parts or a.structural:
            continue
        for key, name in _others(a, part):
            groups = spellings.setdefault(part, {}).setdefault(key, set())
            groups.update(_behind(part, name))
            for prefix in _prefixes(part, a.family):
                groups.add(tuple(prefix + one for one in name))
        for key in infos:
            groups = spellings.setdefault(part, {}).setdefault(key, set())
            groups.update((prefix + key,) for prefix in _prefixes(part, a.family))
    return spellings


def _behind(part: str, names: Spelling) -> tuple[Spelling, Spelling]:
    return names, tuple(f"{part}.{name}" for name in names)


def _others(a: ModelFile, part: str) -> Iterator[tuple[str, Spelling]]:
    infos = a.components[part]
    if part == "vae":
        yield from ((key, (name,)) for key, name in ldm.vae_to_ldm(infos, a.numbering).items())
    elif part == "transformer":
        yield from _of_transformer(a)
    elif part.startswith("text_encoder"):
        for key in infos:
            if not key.startswith(_CLIP):
                continue
            yield key, (f"text_model.{key}",)
            if _is_openclip(a.family, part):
                try:
                    yield key, (openclip_name(key).name,)
                except KeyError:
                    continue


def _is_openclip(family: str, part: str) -> bool:
    rows = [row for one in ([family] if family else FAMILIES) for row in TEXT_PARTS[one] if row.component == part]
    return any(row.naming.startswith("openclip") for row in rows)


def _of_transformer(a: ModelFile) -> Iterator[tuple[str, Spelling]]:
    """The names of the other layout. Of a tensor that the other layout divides, all parts are the name."""
    infos = a.components["transformer"]
    shapes = {key.rpartition(".")[0]: info.shape for key, info in infos.items() if key.endswith(".weight")}
    for pair in pairs_of(shapes, a.family):
        for leaf in ("weight", "bias", "scale"):
            theirs = "weight" if leaf == "scale" else leaf
            if (key := f"{pair.original}.{leaf}") in infos:
                yield key, tuple(f"{path}.{theirs}" for path in pair.diffusers)
            for path in pair.diffusers:
                if (key := f"{path}.{leaf}") in infos:
                    yield key, (f"{pair.original}.{leaf}",)
                    if pair.original.endswith("_norm"):
                        yield key, (f"{pair.original}.scale",)


def _prefixes(part: str, family: str) -> tuple[str, ...]:
    rows = TEXT_PARTS[family] if family else [row for one in FAMILIES for row in TEXT_PARTS[one]]
    text = tuple(dict.fromkeys(row.prefix for row in rows if row.component == part))
    return (*_PREFIXES.get(part, ()), *text, f"{part}.")
