"""Sweeps: tuples of candidates, one per alpha, per block, per adapter weight or per adapter file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

from harness.declare import Adapter, Alphas, AxisValue, Candidate, Merge, Model
from harness.declare.listing import brief
from harness.declare.models import DENOISER
from harness.declare.swept_values import swept_adapter, swept_merge, swept_model, swept_numbers


def alpha_sweep(a: Model | os.PathLike[str], b: Model | os.PathLike[str], alphas: Iterable[float], *,
                method: str = "weighted_sum", parts: tuple[str, ...] | str = (DENOISER,),
                precision: str = "") -> tuple[Candidate, ...]:
    """One candidate per alpha, named "alpha=0.35". Put 0 and 1 among the alphas: the parents are the controls. What is merged is
    the denoiser alone (see Merge); parts="all" merges the text encoders and the VAE too, so that alpha 1 is B. `precision` is
    that of a Candidate."""
    first, second = swept_model(a, "alpha_sweep: a"), swept_model(b, "alpha_sweep: b")
    # "all" is a word, and a relay or an ensemble is refused by the check.
    merge = Merge(a=first, b=second, method=method, parts=parts)  # type: ignore[arg-type]
    return sweep(merge, swept_numbers(alphas, "alpha_sweep: alphas", "(0, 0.5, 1)"), precision=precision)


def sweep(merge: Merge, alphas: Iterable[float], *, precision: str = "") -> tuple[Candidate, ...]:
    """One candidate per alpha, named "alpha=0.35", of any merge; the merge's own alpha is replaced. `precision` is that of a
    Candidate."""
    given = swept_merge(merge, "sweep: merge")
    return tuple(Candidate(name=f"alpha={alpha:g}", axes={"alpha": float(alpha)}, model=replace(given, alpha=float(alpha)),
                           precision=precision) for alpha in swept_numbers(alphas, "sweep: alphas", "(0, 0.5, 1)"))


def block_sweep(merge: Merge, blocks: Iterable[str], values: Iterable[float]) -> tuple[Candidate, ...]:
    """One candidate per block and value, named "IN04=0.5": the effect of one block alone. Everything else has the merge's own
    alpha, or 0 if it has none.

    Blocks are "IN04", "M00", "OUT11", "time_embed", "label_emb" and "out" of a U-Net, "D07" and "S20" of Flux, "J03" of
    SD3. A block is only its own tensors, whatever the conventions of tools. Raises ValueError for an unknown block.
    """
    merge, values = swept_merge(merge, "block_sweep: merge"), swept_numbers(values, "block_sweep: values", "(0, 1)")
    blocks = (blocks,) if isinstance(blocks, str) else tuple(blocks)
    if not blocks:
        raise ValueError("block_sweep: blocks is empty; expected names of blocks, such as ('IN04', 'M00')")
    start = 0.0 if merge.alpha is None else merge.alpha
    rest = start if isinstance(start, Alphas) else Alphas(default=start)
    return tuple(
        Candidate(name=f"{block}={value:g}", axes={block: float(value)},
                  model=replace(merge, alpha=replace(rest, keys=_last(rest.keys, _block_pattern(block), float(value)))))
        for block in blocks for value in values)


def _last(keys: Mapping[str, float], pattern: str, alpha: float) -> dict[str, float]:
    """The patterns with one more at the end, where it overrides all others."""
    return {**{other: value for other, value in keys.items() if other != pattern}, pattern: alpha}


def _block_pattern(block: str) -> str:
    if block in ("time_embed", "label_emb", "out"):
        return f"unet.{block}.*"
    folders = {"IN": "unet.input_blocks", "M": "unet.middle_block", "OUT": "unet.output_blocks", "D": "transformer.double_blocks",
               "S": "transformer.single_blocks", "J": "transformer.joint_blocks"}
    match = re.fullmatch(r"([A-Z]+)(\d{1,3})", block)
    if match is None or match[1] not in folders or (match[1] == "M" and int(match[2])):
        raise ValueError(f"unknown block {block!r}; expected one like IN04, M00, OUT11, time_embed, label_emb, out, D07, S20 "
                         "or J03")
    return f"{folders[match[1]]}.*" if match[1] == "M" else f"{folders[match[1]]}.{int(match[2])}.*"


def adapter_sweep(model: Model | os.PathLike[str], adapter: Adapter | str | os.PathLike[str],
                  weights: Iterable[float], *, precision: str = "") -> tuple[Candidate, ...]:
    """One candidate per adapter weight, named "weight=0.5"; the weight of an Adapter is replaced. `precision` is that of a
    Candidate."""
    base, given = swept_model(model, "adapter_sweep: model"), swept_adapter(adapter, "adapter_sweep: adapter")
    return tuple(Candidate(name=f"weight={weight:g}", axes={"weight": float(weight)}, model=base, precision=precision,
                           adapters=(replace(given, weight=float(weight)),))
                 for weight in swept_numbers(weights, "adapter_sweep: weights", "(0, 0.5, 1)"))


def adapter_files(model: Model | os.PathLike[str],
                  files: Mapping[AxisValue, str | os.PathLike[str] | Adapter] | Iterable[str | os.PathLike[str]],
                  weights: Iterable[float] = (1.0,), *, axis: str = "epoch") -> tuple[Candidate, ...]:
    """One candidate per file of one training and weight, named "epoch=4 weight=0.8"; both are axes. With one weight the name is
    "epoch=4".

    `files` maps the epoch, or another number or word, to each file, or to an Adapter whose weight is replaced. Of a list of
    files the number is the one that each name ends with, as in "style-000004.safetensors". `axis` is what the numbers count.
    At weight 0 all files are the same model, so it is one candidate, named "weight=0", beside those of the first file.
    Raises ValueError for a file whose name does not end with a whole number, and for two that end with the same.
    """
    if axis == "weight":
        raise ValueError("adapter_files: 'weight' is the axis of the weights; give another name for what the files differ in, "
                         "such as axis='epoch'")
    base = swept_model(model, "adapter_files: model")
    given = {at: swept_adapter(a, f"adapter_files: {at!r}")
             for at, a in (files if isinstance(files, Mapping) else _numbered(files)).items()}
    if not given:
        raise ValueError("adapter_files: files is empty; expected files of one training, such as {1: 'style-000001.safetensors'}")
    listed = tuple(map(float, swept_numbers(weights, "adapter_files: weights", "(0, 0.5, 1)")))
    candidates = []
    if 0.0 in listed:
        candidates.append(Candidate(name="weight=0", model=base, axes={axis: next(iter(given)), "weight": 0.0}))
    for at, weight in product(given, (weight for weight in listed if weight)):
        names = [f"{axis}={at}", *([f"weight={weight:g}"] if len(listed) > 1 else [])]
        candidates.append(Candidate(name=" ".join(names), model=base, adapters=(replace(given[at], weight=weight),),
                                    axes={axis: at, **({"weight": weight} if len(listed) > 1 else {})}))
    return tuple(candidates)


def _numbered(files: Iterable[str | os.PathLike[str]]) -> dict[AxisValue, str]:
    """The files by the number that each name ends with."""
    numbered: dict[AxisValue, str] = {}
    for path in ([files] if isinstance(files, str | os.PathLike) else files):
        name = os.fspath(path)
        # Not the end of another number: "v1.5" and "lr1e-4" would count as 5 and 4.
        match = re.search(r"(?<![\d.])(?<!\de[-+])(?<!\de)(\d+)$", Path(name).stem)
        if match is None:
            raise ValueError(f"adapter_files: the name of {name!r} does not end with a whole number; give the files by number, "
                             f"such as {{10: {name!r}}}")
        if (number := int(match[1])) in numbered:
            raise ValueError(f"adapter_files: {numbered[number]!r} and {name!r} both end with {number}; give the files by number "
                             f"or name, such as {{'first': {numbered[number]!r}, 'second': {name!r}}}")
        numbered[number] = name
    return numbered


def adapter_grid(model: Model | os.PathLike[str], adapters: Mapping[str, str | os.PathLike[str] | Adapter],
                 weights: Iterable[float] | Mapping[str, Iterable[float]]) -> tuple[Candidate, ...]:
    """One candidate per combination of the weights of several adapters, named "ink=0.5 detail=1"; each adapter is an axis.

    `adapters` maps a short name to each file, or to an Adapter whose weight is replaced. `weights` are the same for all, or
    by name. An adapter at weight 0 is left out, so the model alone is a candidate like any other.
    """
    base = swept_model(model, "adapter_grid: model")
    if not isinstance(adapters, Mapping) or not adapters:
        raise ValueError(f"adapter_grid: adapters is {brief(repr(adapters))}; expected files by a short name, such as "
                         "{'ink': 'ink.safetensors'}")
    given = {name: swept_adapter(adapter, f"adapter_grid: {name!r}") for name, adapter in adapters.items()}
    what, example = "adapter_grid: weights", "(0, 0.5, 1)"
    listed = ({name: swept_numbers(values, what, example) for name, values in weights.items()} if isinstance(weights, Mapping)
              else dict.fromkeys(given, swept_numbers(weights, what, example)))
    if unlike := sorted(given.keys() ^ listed.keys()):
        raise ValueError(f"adapter_grid: {unlike[0]!r} has an adapter or weights, but not both; give both for each name")
    candidates = []
    for chosen in product(*(listed[name] for name in given)):
        at = dict(zip(given, map(float, chosen), strict=True))
        candidates.append(Candidate(
            name=" ".join(f"{name}={weight:g}" for name, weight in at.items()), model=base, axes=at,
            adapters=tuple(replace(given[name], weight=weight) for name, weight in at.items() if weight)))
    return tuple(candidates)
