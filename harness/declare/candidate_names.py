"""Names of candidates that sweeps made, and those that mean the same in another spelling."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterable
from typing import Final

from harness.declare.listing import first_of
from harness.declare.nearest import MOST_LISTED, did_you_mean
from harness.declare.sampler_names import sampler_named

_LONGEST: Final = 300
_ON_PAGE: Final = re.compile(r"(\S+) (-?[\d.]+)")
_WORD: Final = re.compile(r"(\S+?)=(.*?)(?=\s+\S+?=|$)")


def hint(name: object, known: Iterable[str]) -> str:
    """The hint for an unknown candidate, to be written after "; ". A name with the same value on every axis comes before similar
    ones: "steps=8 sampler=DPM++ 2M Karras" for "sampler=dpmpp_2m_karras steps=08", and "strength=0.4" for "strength 0.4", as the
    page has it; then the only one with the same value on each axis that is given."""
    names = sorted(known) if isinstance(known, set | frozenset) else list(known)
    same = [other for other in names if _meaning(other) == _meaning(str(name))]
    if not same and _parts(asked := str(name)):
        holding = [other for other in names if {*_parts(asked)} <= {*_parts(other)}]
        same = holding if len(holding) == 1 else []
    return f"did you mean {same[0]!r}? Known: {first_of(names, MOST_LISTED)}" if same else did_you_mean(name, names)


def unknown_candidates(names: Iterable[object], known: Collection[str]) -> Iterable[str]:
    """One phrase per name that is not among the known."""
    return (f"unknown candidate {name!r}; {hint(name, known)}" for name in names if name not in known)


def parts_of_name(name: str) -> list[tuple[str, str]]:
    """The (axis, value) pairs that a name says, as written: two of "steps=8 sampler=DPM++ 2M Karras"."""
    return [(axis, value.strip()) for axis, value in _WORD.findall(name[:_LONGEST].strip())]


def _meaning(name: str) -> Hashable:
    """The values by axis, whatever their order and spelling."""
    return _parts(name) or name[:_LONGEST].strip().casefold()


def _parts(name: str) -> frozenset[tuple[str, Hashable]]:
    text = name[:_LONGEST].strip()
    on_page = _ON_PAGE.fullmatch(text)
    pairs = parts_of_name(text) or ([(on_page[1], on_page[2])] if on_page else [])
    return frozenset((axis.casefold(), _value(axis.casefold(), value)) for axis, value in pairs)


def _value(axis: str, text: str) -> Hashable:
    if axis == "sampler":
        try:
            return sampler_named("dpmpp_2m karras" if text == "dpmpp_2m_karras" else text)
        except ValueError:
            return text.casefold()
    try:
        return float(text)
    except ValueError:
        return text.casefold()
