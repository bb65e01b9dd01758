"""The search space of block weights: the names of the blocks, and the presets as starting points."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from harness.declare import Alpha, Alphas, Blocks, Gradient, Merge, Search
from harness.declare.nearest import did_you_mean
from harness.merge.alpha_by_key import alphas_by_key
from harness.merge.blocks import FULL_SIZE, WhereError, slots_of
from harness.merge.presets import PRESETS, preset_base
from harness.merge.requested import OR_ZERO, ZERO_OR_ONE

DECIMALS: Final = 3
"""Of a block weight: files and names stay short, and a change of 0.001 is not visible in an image."""

_FLAT: Final = re.compile(r"FLAT_(\d\d?)")
_LACKS_BASE: Final = re.compile(r"give base=\.\.\., or put the values of BASE first")
_BESIDE: Final = ("BASE", "VAE", "CLIP", "T5")
"""The slots outside all blocks. Presets have no values for them; they get `preset_base`."""


class SearchError(ValueError):
    """A search that cannot be started or continued. The message says why and what to do."""


def slots_of_search(search: Search) -> tuple[str, ...]:
    """The names of the blocks that the search has weights for, in the order of the values: "BASE", "IN00", ... Raises
    SearchError if no model has that number of blocks."""
    return _placed(search)[2]


def in_words_of_search(problem: str, search: Search) -> str:
    """A refusal of the merge of a search with what can be done about it there: its block weights are not declared."""
    try:
        slots = slots_of_search(search)
    except SearchError:
        slots = ()
    for slot in _BESIDE:
        inside = sum(slot not in _BESIDE for slot in slots)
        problem = problem.replace(OR_ZERO.format(slot=slot), f"or search the blocks alone with blocks={inside}")
    problem = _LACKS_BASE.sub(f"search the weight of BASE too with blocks={search.blocks + 1}", problem)
    return problem.replace(ZERO_OR_ONE, "Merge models that have tensors of it, or give candidates with one alpha each")


def proposed(search: Search, values: Sequence[float]) -> Merge:
    """The merge of a search with these block weights."""
    blocks, declared = Blocks(values=tuple(values), convention=convention_of(search)), search.merge.alpha
    alpha: Alpha = replace(declared, default=blocks) if isinstance(declared, Alphas) else blocks
    return replace(search.merge, alpha=alpha)


def preset_values(search: Search, preset: str) -> tuple[float, ...]:
    """The block weights of a preset for the blocks of the search, rounded to 0.001. Any FLAT_<percent> is one value in every
    block: FLAT_50 is 0.5, like the published FLAT_25 and FLAT_75. Raises SearchError for an unknown or unsuitable preset."""
    family, (inputs, outputs), slots = _placed(search)
    if flat := _FLAT.fullmatch(preset):
        return tuple(preset_base(preset) if slot in _BESIDE else int(flat[1]) / 100 for slot in slots)
    if preset not in PRESETS:
        raise SearchError(f"unknown preset {preset!r}; {did_you_mean(preset, PRESETS)}")
    if family in ("flux", "sd3"):
        raise SearchError(f"preset {preset!r} is only for U-Nets, and {search.blocks} block weights belong to {family}; remove "
                          "the presets with presets=(), or give presets such as FLAT_50")
    names = [*(f"input_blocks.{n}.0.weight" for n in range(inputs)), "middle_block.0.weight",
             *(f"output_blocks.{n}.0.weight" for n in range(outputs))]
    blocks = Blocks(preset=preset, convention=convention_of(search))
    try:
        by_key = alphas_by_key(blocks, "unet", {name: name for name in names}, family=family)
    except WhereError as error:
        raise SearchError(f"{error}; or remove the presets from the search") from error
    by_slot = {slot: value for slot, (value, _) in by_key.by_slot.items()}
    return tuple(round(by_slot.get(slot, preset_base(preset)), DECIMALS) for slot in slots)


def _placed(search: Search) -> tuple[str, tuple[int, int], tuple[str, ...]]:
    """(family, numbers of blocks, names of the slots) of the first family that has as many slots as the search."""
    count, convention = search.blocks, convention_of(search)
    sizes = [*FULL_SIZE.items(), ("sd1", ((count - 1) // 2, (count - 1) // 2))]
    for family, size in sizes:
        try:
            slots = slots_of(convention, family, (), size)
        except WhereError:
            continue  # this tool has no block weights for that family
        for named in (slots.body, slots.head + slots.body, slots.head + slots.body + slots.tail):
            if len(named) == count:
                return family, size, named
    raise SearchError(f"no model has {count} block weights under convention {convention!r}; Stable Diffusion 1 has 26 with "
                      "BASE, SDXL 20, Flux 61")


def convention_of(search: Search) -> str:
    """The convention of the block weights: the one in the alpha of the declared merge, else "supermerger"."""
    alpha: Alpha | float | Blocks | Gradient | None = search.merge.alpha
    alpha = alpha.default if isinstance(alpha, Alphas) else alpha
    return alpha.convention if isinstance(alpha, Blocks) else "supermerger"
