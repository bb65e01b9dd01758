"""Checks the numbers of an alpha, a beta or an adapter's block weights against the range they may have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from harness.check.phrases import number, unknown
from harness.declare import Alpha, Alphas, Blocks, Gradient
from harness.merge.blocks import CONVENTIONS
from harness.merge.presets import PRESETS, preset_base

PARTS: Final = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")
LEAST_BLOCKS, MOST_BLOCKS = 3, 110
"""At least an input, a middle and an output block; at most more than any convention has."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """The range of the numbers called `word`: `low` to `high`, set by `whose` ("'weighted_sum'"), for components `parts`."""

    word: str
    whose: str
    low: float
    high: float
    parts: tuple[str, ...] = PARTS


def alpha_problems(given: Alpha, allowed: Range) -> Iterator[str]:
    """One phrase per number out of range and per unknown name."""
    yield from _Numbers(allowed).problems(given)


class _Numbers:
    """Every number that an alpha or beta holds, against the range of the method."""

    def __init__(self, allowed: Range) -> None:
        self.word, self.allowed = allowed.word, allowed

    def problems(self, given: Alpha) -> Iterator[str]:
        if isinstance(given, Alphas):
            yield from self._alphas(given)
        else:
            yield from self._rule(self.word, given)

    def _alphas(self, given: Alphas) -> Iterator[str]:
        yield from self._rule(f"{self.word}: default", given.default)
        yield from unknown(f"part of {self.word}", given.parts, PARTS)
        for part, rule in given.parts.items():
            yield from self._rule(f"{self.word}: parts[{part!r}]", rule)
            if part in PARTS and part not in self.allowed.parts:
                yield (f"{self.word}: the part {part!r} has a value of its own, but is not merged; merged: "
                       f"{', '.join(self.allowed.parts)}")
        yield from self._named(f"{self.word}: keys", given.keys)

    def _named(self, place: str, values: Mapping[str, float]) -> Iterator[str]:
        for name, value in values.items():
            yield from self._number(f"{place}[{name!r}]", value)
            if not name.strip():
                yield f"{place}: the pattern {name!r} is empty; use * to match any text"

    def _rule(self, place: str, rule: float | Blocks | Gradient) -> Iterator[str]:
        if isinstance(rule, Gradient):
            if len(rule.values) < 2:
                yield (f"{place}: a gradient needs at least 2 values, for the first and the last layer; {len(rule.values)} given")
            yield from self._listed(f"{place}: values", rule.values)
        elif isinstance(rule, Blocks):
            yield from self._blocks(place, rule)
        else:
            yield from self._number(place, rule)

    def _blocks(self, place: str, blocks: Blocks) -> Iterator[str]:
        yield from (f"{place}: {phrase}" for phrase in unknown("convention", [blocks.convention], CONVENTIONS))
        if bool(blocks.values) == bool(blocks.preset):
            given_both = "both values and a preset are" if blocks.preset else "neither values nor a preset is"
            yield f"{place}: {given_both} given; give one of them"
        if blocks.preset:
            yield from self._preset(place, blocks)
        elif blocks.values and not LEAST_BLOCKS <= len(blocks.values) <= MOST_BLOCKS:
            yield (f"{place}: {len(blocks.values)} block weights are given; expected one for each block, such as 26 for Stable "
                   "Diffusion 1 or 20 for SDXL, BASE first")
        yield from self._listed(f"{place}: values", blocks.values)
        if blocks.base is not None:
            yield from self._number(f"{place}: base", blocks.base)

    def _preset(self, place: str, blocks: Blocks) -> Iterator[str]:
        if blocks.preset not in PRESETS:
            yield from (f"{place}: {phrase}" for phrase in unknown("preset", [blocks.preset], PRESETS))
            return
        if blocks.convention in CONVENTIONS and CONVENTIONS[blocks.convention].own_slots:
            yield (f"{place}: preset {blocks.preset!r} has no values for the slots of convention {blocks.convention!r}; give "
                   "values, or use another convention")
        values = (*PRESETS[blocks.preset], preset_base(blocks.preset))
        for value in {min(values), max(values)}:
            yield from self._number(f"{place}: a value of preset {blocks.preset!r}", value)

    def _listed(self, place: str, values: tuple[float, ...]) -> Iterator[str]:
        for index, value in enumerate(values):
            yield from self._number(f"{place}[{index}]", value)

    def _number(self, place: str, value: float) -> Iterator[str]:
        if not number(value) or not self.allowed.low <= value <= self.allowed.high:
            yield f"{place} is {value!r}; {self.allowed.whose} takes {self.allowed.low:g} to {self.allowed.high:g}"
