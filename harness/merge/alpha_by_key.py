"""Where alpha applies: the alpha of every key of a component, from a number, block weights, a gradient or patterns."""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from harness.declare import Alpha, Alphas, Blocks, Gradient
from harness.declare.nearest import did_you_mean
from harness.merge.blocks import (
    DENOISERS,
    FULL_SIZE,
    NONE,
    Slots,
    WhereError,
    counts,
    find_convention,
    single_file_name,
    slot_of,
    slots_of,
    unet_blocks,
)
from harness.merge.depth import layers_of, numbered_layers
from harness.merge.presets import PRESETS, interpolated, preset_base

__all__ = ["ByKey", "WhereError", "alphas_by_key"]

EVERYWHERE: Final = "all"
"""The slot of all keys when alpha is a single number."""
LAYERLESS: Final = "no layer"
"""The slot of keys outside all layers. A gradient gives them its mean."""

_PREFIXES: Final = {"unet": "model.diffusion_model.", "transformer": "model.diffusion_model.", "vae": "first_stage_model."}


@dataclass(frozen=True, kw_only=True)
class ByKey:
    """The alpha of every key of one component, and the slot that gave it: "IN04", "BASE", a pattern, ... Keys of the slot
    "none" are not merged: they stay A's, whatever the method does at alpha 0.

    `notes` are sentences for readers of the coverage. `matched` are the patterns that match a key of this component,
    `explicit` are the slots that were given a number of their own other than 0, with how many keys count to each, those that a
    pattern decides included. `gradient` are the values that are spread over the depth, if any are, and `layers` is the number of
    layers they are spread over.
    """

    component: str
    values: Mapping[str, float]
    slots: Mapping[str, str]
    notes: tuple[str, ...] = ()
    matched: tuple[str, ...] = ()
    explicit: Mapping[str, int] = field(default_factory=dict)
    gradient: tuple[float, ...] = ()
    layers: int = 0

    @property
    def by_slot(self) -> dict[str, tuple[float, int]]:
        """{slot: (its alpha, its number of keys)}, in the order of the keys: a short summary of the merge."""
        sizes = Counter(self.slots.values())
        return {slot: (self.values[key], sizes[slot]) for key, slot in self.slots.items()}


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One component, with all that the rules below need. `denoiser` holds the single-file names of the model's U-Net or
    transformer, and is empty when they are not known; `whole` holds all keys of this component. `exempt` holds the keys whose
    alpha a pattern sets, `elsewhere` those that a pattern matches under other names. `numbered` is None for a model of a known
    family, see `alphas_by_key`."""

    component: str
    family: str
    names: Mapping[str, str]
    denoiser: tuple[str, ...]
    whole: frozenset[str]
    exempt: frozenset[str] = frozenset()
    elsewhere: Mapping[str, frozenset[str]] = field(default_factory=dict)
    numbered: Sequence[str] | None = None


@dataclass
class _Found:
    values: dict[str, float] = field(default_factory=dict)
    slots: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    explicit: dict[str, int] = field(default_factory=dict)
    gradient: tuple[float, ...] = ()
    layers: int = 0


def alphas_by_key(alpha: Alpha, component: str, names: Mapping[str, str], *, family: str,  # noqa: PLR0913  # each by name
                  denoiser: Iterable[str] = (), whole: Iterable[str] = (),
                  elsewhere: Mapping[str, frozenset[str]] | None = None, numbered: Sequence[str] | None = None) -> ByKey:
    """The alpha of every key of `component`.

    `names` is {diffusers name: single-file name below the component's prefix}; `family` is "sd1", "sd2", "sdxl",
    "sdxl_refiner", "flux" or "sd3". `denoiser` holds the single-file names of the U-Net or transformer of the same model:
    its slots are counted from them. Without it, the number of values gives the slots of the other components. Flux and SD3
    names may also be diffusers names. `whole` holds the diffusers names of all of a text encoder's or VAE's keys, of which
    `names` may lack some; their layers are counted from them. `elsewhere` is {pattern: the keys that it matches under names of
    other tools}. `numbered` is given for a model without a family: what precedes the numbers of its transformer's layers, as
    executed, or nothing where the names themselves must show it.

    Raises WhereError for a wrong number of values, an unknown preset or convention, and a key that gets no value.
    """
    if component in DENOISERS:
        names = {key: single_file_name(family, name) for key, name in names.items()}
    # All of the model's names, if given: a key that is not merged can belong to a block that no merged key is in.
    all_names = tuple(single_file_name(family, name) for name in denoiser)
    part = _Part(component=component, family=family, names=names, whole=frozenset((*names, *whole)),
                 denoiser=all_names or (tuple(names.values()) if component in DENOISERS else ()), elsewhere=elsewhere or {},
                 numbered=numbered)
    if not isinstance(alpha, Alphas):
        by_key = _rule(alpha, part)
        return ByKey(component=component, values=by_key.values, slots=by_key.slots, notes=tuple(by_key.notes),
                     explicit=by_key.explicit, gradient=by_key.gradient, layers=by_key.layers)
    chosen, matched = _patterns(alpha.keys, part)
    by_key = _rule(alpha.parts.get(component, alpha.default), _Part(
        component=component, family=family, names=names, denoiser=part.denoiser, whole=part.whole, exempt=frozenset(chosen),
        numbered=numbered))
    for key, pattern in chosen.items():
        by_key.values[key], by_key.slots[key] = alpha.keys[pattern], pattern
    return ByKey(component=component, values={key: by_key.values[key] for key in names}, notes=tuple(by_key.notes),
                 slots={key: by_key.slots[key] for key in names}, matched=matched, explicit=by_key.explicit,
                 gradient=by_key.gradient, layers=by_key.layers)


def _rule(rule: float | Blocks | Gradient, part: _Part) -> _Found:
    if isinstance(rule, Blocks):
        return _blocks(rule, part)
    if isinstance(rule, Gradient):
        return _gradient(rule, part)
    return _Found(values=dict.fromkeys(part.names, float(rule)), slots=dict.fromkeys(part.names, EVERYWHERE))


def spellings_of(component: str, key: str, name: str) -> set[str]:
    """The names under which a pattern finds a key: diffusers' and the single file's, behind the component's name or not."""
    prefixed = {_PREFIXES[component] + name} if component in _PREFIXES else set()
    return {key, name, f"{component}.{key}", f"{component}.{name}", *prefixed}


def _patterns(patterns: Mapping[str, float], part: _Part) -> tuple[dict[str, str], tuple[str, ...]]:
    """Returns {key: the last pattern that matches it}, and every pattern that matches some key."""
    compiled = {pattern: re.compile(fnmatch.translate(pattern)) for pattern in patterns}
    chosen: dict[str, str] = {}
    matched: dict[str, None] = {}
    for key, name in part.names.items():
        spellings = spellings_of(part.component, key, name)
        for pattern, expression in compiled.items():
            if any(map(expression.match, spellings)) or key in part.elsewhere.get(pattern, ()):
                chosen[key] = pattern
                matched[pattern] = None
    return chosen, tuple(pattern for pattern in patterns if pattern in matched)


def _blocks(blocks: Blocks, part: _Part) -> _Found:
    """Alpha by slot. One WhereError lists every slot that has keys but no value."""
    find_convention(blocks.convention)
    size = _size(blocks, part)
    slots = slots_of(blocks.convention, part.family, part.denoiser, size)
    table, notes = _preset(blocks, slots, size) if blocks.preset else _values(blocks, slots, part, size)
    by_key = _Found(notes=notes, explicit=dict.fromkeys(_explicit(blocks, table), 0))
    beside: Counter[tuple[str, str]] = Counter()
    lacking: dict[str, int] = {}
    for key, name in part.names.items():
        slot = slot_of(blocks.convention, part.family, part.component, name, size)
        if slot in by_key.explicit:
            by_key.explicit[slot] += 1
        if key in part.exempt:
            continue
        if slot != NONE and slot not in table:
            lacking[slot] = lacking.get(slot, 0) + 1
            continue
        by_key.values[key], by_key.slots[key] = table.get(slot, 0.0), slot
        if group := _group(part, name):
            beside[group, slot] += 1
    if lacking:
        raise WhereError(_lacking(part.component, lacking, blocks, slots))
    for (group, slot), count in beside.items():
        keys = f"{group} ({count} {'key' if count == 1 else 'keys'})"
        if slot == NONE:
            by_key.notes.append(f"{keys} is not merged and stays A's (convention {blocks.convention})")
        elif slot != group:
            by_key.notes.append(f"{keys} counts to {slot} (convention {blocks.convention})")
    return by_key


def _explicit(blocks: Blocks, table: Mapping[str, float]) -> tuple[str, ...]:
    """The slots that got a number of their own. 0 asks for nothing; a preset's values are the preset's."""
    if blocks.preset:
        return ("BASE",) if blocks.base else ()
    return tuple(slot for slot, value in table.items() if value)


def _size(blocks: Blocks, part: _Part) -> tuple[int, int]:
    """The model's numbers of blocks: counted from its own keys, or else derived from the number of values.

    A U-Net has as many input blocks as output blocks: n of each need 2n + 1 values, or 2n + 2 with BASE.
    """
    if part.denoiser:
        return counts(part.denoiser, part.family)
    if part.family not in FULL_SIZE:
        raise WhereError(f"unknown family {part.family!r}; {did_you_mean(part.family, FULL_SIZE)}")
    full = FULL_SIZE[part.family]
    convention = find_convention(blocks.convention)
    given = len(blocks.values)
    slots = slots_of(blocks.convention, part.family, (), full)
    fits = given in {len(slots.body), len(slots.head + slots.body), len(slots.head + slots.body + slots.tail)}
    if blocks.preset or fits or part.family in ("flux", "sd3") or convention.own_slots or slots.tail:
        return full
    return (given - 1) // 2, (given - 1) // 2


def _values(blocks: Blocks, slots: Slots, part: _Part, size: tuple[int, int]) -> tuple[dict[str, float], list[str]]:
    """{slot: value} for a list of values, and notes."""
    values, notes = blocks.values, []
    if blocks.convention == "supermerger" and part.family == "sdxl" and size == (9, 9) and len(values) in (25, 26):
        values = _without_outer(values)
        notes.append(f"{len(blocks.values)} values of a Stable Diffusion 1 model are taken for SDXL without IN09 to IN11 and "
                     "OUT09 to OUT11 (convention supermerger)")
    first = slots.head + slots.body
    if len(values) == len(slots.body):
        table = dict(zip(slots.body, values, strict=True))
        if blocks.base is not None:
            table.update(dict.fromkeys(slots.head or ("BASE",), blocks.base))
        return table, notes
    if len(values) not in (len(first), len(first + slots.tail)):
        shorter = ""
        if part.family == "sdxl" and len(values) in (25, 26):
            shorter = ". Only the convention 'supermerger' converts Stable Diffusion 1 values to SDXL"
        raise WhereError(f"got {len(values)} block weights; {slots.describe()}{shorter}")
    if blocks.base is not None:
        raise WhereError(f"base is {blocks.base:g}, but the {len(values)} values already begin with "
                         f"{' and '.join(slots.head)}; remove one of them")
    return dict(zip((*first, *slots.tail), values, strict=False)), notes


def _without_outer(values: tuple[float, ...]) -> tuple[float, ...]:
    """The 20 (or 19) values of SDXL from the 26 (or 25) of Stable Diffusion 1."""
    base, rest = values[:len(values) - 25], values[len(values) - 25:]
    return (*base, *rest[:9], *rest[12:22])


def _preset(blocks: Blocks, slots: Slots, size: tuple[int, int]) -> tuple[dict[str, float], list[str]]:
    """{slot: value} of a preset, and notes. Presets are written for the 25 blocks of Stable Diffusion 1."""
    if blocks.preset not in PRESETS:
        raise WhereError(f"unknown preset {blocks.preset!r}; {did_you_mean(blocks.preset, PRESETS)}")
    if slots.model != "U-Net":
        raise WhereError(f"preset {blocks.preset!r} is only for U-Nets; {slots.describe()}. Give values, or a Gradient")
    if not slots.head:
        raise WhereError(f"preset {blocks.preset!r} has no values for {slots.body[0]} and {slots.body[-1]}, which are slots of "
                         f"convention {blocks.convention!r}; give values, or another convention")
    inputs, outputs = size
    values = PRESETS[blocks.preset]
    notes = []
    if blocks.convention == "supermerger" and size == (9, 9):
        values = _without_outer(values)
        notes.append(f"preset {blocks.preset} is taken without IN09 to IN11 and OUT09 to OUT11 (convention supermerger)")
    elif size != (12, 12):
        values = tuple(interpolated(values, place) for place in (
            *(12 * n / inputs for n in range(inputs)), 12.0, *(12 + 12 * (n + 1) / outputs for n in range(outputs))))
        notes.append(f"preset {blocks.preset} is made for 12 input and 12 output blocks; here it is interpolated by depth "
                     f"for {inputs} and {outputs}")
    table = dict(zip(unet_blocks(inputs, outputs), values, strict=True))
    base = preset_base(blocks.preset) if blocks.base is None else blocks.base
    if slots.tail:
        notes.append(f"preset {blocks.preset} has no value for {slots.tail[0]}; it gets that of BASE")
    return {"BASE": base, **table, **dict.fromkeys(slots.tail, base)}, notes


def _lacking(component: str, lacking: Mapping[str, int], blocks: Blocks, slots: Slots) -> str:
    listed = " and ".join(f"{slot} ({count} {'key' if count == 1 else 'keys'})" for slot, count in lacking.items())
    if any(slot in ("BASE", *slots.head) for slot in lacking):
        remedy = "give base=..." + (", or put the values of " + " and ".join(slots.head) + " first" if slots.head else "")
    else:
        remedy = slots.describe()
    return (f"{component} has no value for {listed} under convention {blocks.convention!r}; {remedy}, or remove {component!r} "
            "from parts")


def _group(part: _Part, name: str) -> str:
    """The name that notes give to a key outside all blocks; empty for a key in a block."""
    if part.component not in DENOISERS:
        return part.component
    first = name.partition(".")[0]
    return "" if first in ("input_blocks", "middle_block", "output_blocks") or first.endswith("_blocks") else first


def _gradient(gradient: Gradient, part: _Part) -> _Found:
    """Anchors at equal distances over the depth, with linear interpolation between them."""
    layers: Mapping[str, tuple[str, float]]
    if part.numbered is None:
        layers, last = layers_of(part.component, part.family, part.names, part.denoiser, part.whole)
    else:
        layers, last = numbered_layers(part.component, part.names, part.whole, part.numbered)
    anchors = gradient.values
    if len(anchors) < 2:
        raise WhereError(f"the gradient has {len(anchors)} values; expected at least 2, for the first and the last layer")
    mean = sum(anchors) / len(anchors)
    by_key = _Found(gradient=anchors, layers=last + 1)
    for key in part.names:
        if key in part.exempt:
            continue
        if key not in layers:
            by_key.values[key], by_key.slots[key] = mean, LAYERLESS
            continue
        slot, index = layers[key]
        by_key.values[key] = interpolated(anchors, index / last * (len(anchors) - 1) if last else 0.0)
        by_key.slots[key] = slot
    if count := sum(slot == LAYERLESS for slot in by_key.slots.values()):
        keys = "key" if count == 1 else "keys"
        by_key.notes.append(f"alpha of {count} {keys} in no layer is the mean of the gradient, {mean:g}")
    return by_key
