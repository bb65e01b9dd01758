"""Which layers get which of two modes within a budget of bits, and the shortest Mixed that says so. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from harness.declare.mixed import Mixed

_ROUNDING: Final = 1e-9


class BudgetError(ValueError):
    """A budget of bits that no choice between the two modes meets; the message says which are met."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """A layer's weight in one mode: its bytes with scales, and its squared error."""

    bytes: int
    error: float


@dataclass(frozen=True, kw_only=True)
class LayerOptions:
    """A layer's weight, its number of parameters, and what it is in each mode."""

    name: str
    parameters: int
    options: Mapping[str, Option]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The mode of every layer, by the name of its weight, and the mean bits per weight."""

    modes: Mapping[str, str]
    bits: float


def refuse_budget(layers: Sequence[LayerOptions], bits: float) -> None:
    """Raises BudgetError for a budget that no choice meets, or that every choice does. No error is looked at."""
    _ends(layers, bits)


def chosen(layers: Sequence[LayerOptions], bits: float) -> Choice:
    """Each layer in its smaller mode; then those in the larger one whose squared error falls most per byte, as far as the budget
    of mean bits per weight reaches. Raises BudgetError for a budget that does not decide anything."""
    smaller, larger = _ends(layers, bits)
    gains = {name: (smaller[name].error - larger[name].error) / (larger[name].bytes - smaller[name].bytes) for name in larger}
    order = sorted((name for name in larger if gains[name] > 0), key=lambda name: (-gains[name], name))
    return _filled(layers, order, bits)


def drawn(layers: Sequence[LayerOptions], bits: float, seed: int) -> Choice:
    """As `chosen`, with the layers that get the larger mode drawn by chance."""
    order = sorted(_ends(layers, bits)[1])
    random.Random(seed).shuffle(order)
    return _filled(layers, order, bits)


def uniform(layers: Sequence[LayerOptions], mode: str) -> Choice:
    """Every layer in one mode."""
    return _choice(layers, {layer.name: mode for layer in layers})


def mixed_of(choice: Choice) -> Mixed:
    """The Mixed of a choice: the mode of most layers is the default, and blocks whose layers all have another one are one
    pattern."""
    counts = {mode: sum(other == mode for other in choice.modes.values()) for mode in sorted(set(choice.modes.values()))}
    default = max(counts, key=lambda mode: counts[mode])
    keys = {pattern: mode for mode in counts if mode != default for pattern in _patterns(choice.modes, mode)}
    return Mixed(default=default, keys=dict(sorted(keys.items())))


def _patterns(modes: Mapping[str, str], mode: str) -> Iterable[str]:
    """The fewest of whole names and "block.*" that match the weights of a mode and no others."""
    inside: dict[str, list[str]] = {}
    for name in modes:
        parts = name.split(".")
        for length in range(1, len(parts) - 1):
            inside.setdefault(".".join(parts[:length]), []).append(name)
    whole = {prefix for prefix, names in inside.items() if len(names) > 1 and all(modes[name] == mode for name in names)}
    for name in (name for name, other in modes.items() if other == mode):
        parts = name.split(".")
        prefixes = (".".join(parts[:length]) for length in range(1, len(parts) - 1))
        yield next((f"{prefix}.*" for prefix in prefixes if prefix in whole), name)


def _ends(layers: Sequence[LayerOptions], bits: float) -> tuple[dict[str, Option], dict[str, Option]]:
    """The smaller option of every layer, and the larger one of those whose options differ in size. Raises BudgetError for bits
    that are not between the two."""
    smaller = {layer.name: layer.options[_smaller(layer)] for layer in layers}
    larger = {layer.name: option for layer in layers
              for option in [layer.options[_larger(layer)]] if option.bytes > smaller[layer.name].bytes}
    low, high = (_bits(layers, of) for of in (smaller, smaller | larger))
    beyond = not low <= bits + _ROUNDING  # not a number too
    if beyond or bits >= high:
        modes = " and ".join(dict.fromkeys(mode for layer in layers for mode in layer.options))
        reached = f"{modes} reach from {low:.2f} to {high:.2f} bits per weight, scales included"
        raise BudgetError(f"{bits:g} bits are out of reach: {reached}. Give a number between the two, or another pair of modes"
                          if beyond else f"{bits:g} bits need no choice: {reached}, and the larger mode fits for all layers. "
                                             "Declare it, or give a number between the two")
    return smaller, larger


def _filled(layers: Sequence[LayerOptions], order: Iterable[str], bits: float) -> Choice:
    """The layers in `order` in their larger mode, one after the other, where the budget still allows it."""
    by_name = {layer.name: layer for layer in layers}
    modes = {layer.name: _smaller(layer) for layer in layers}
    left = bits * sum(layer.parameters for layer in layers) / 8 + _ROUNDING - sum(
        layer.options[_smaller(layer)].bytes for layer in layers)
    for name in order:
        layer = by_name[name]
        more = layer.options[_larger(layer)].bytes - layer.options[_smaller(layer)].bytes
        if more <= left:
            modes[name], left = _larger(layer), left - more
    return _choice(layers, modes)


def _choice(layers: Sequence[LayerOptions], modes: Mapping[str, str]) -> Choice:
    return Choice(modes=modes, bits=_bits(layers, {layer.name: layer.options[modes[layer.name]] for layer in layers}))


def _smaller(layer: LayerOptions) -> str:
    return min(layer.options, key=lambda mode: (layer.options[mode].bytes, layer.options[mode].error))


def _larger(layer: LayerOptions) -> str:
    return next(mode for mode in layer.options if mode != _smaller(layer))


def _bits(layers: Sequence[LayerOptions], of: Mapping[str, Option]) -> float:
    return 8 * sum(option.bytes for option in of.values()) / sum(layer.parameters for layer in layers)
