"""Names of candidates that sweeps made, and those that mean the same in another spelling."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterable
from typing import Final

from harness.declare.listing import first_of
from harness.declare.nearest import MOST_LISTED, did_you_mean
from harness.declare.sampler_names import sampler_named

_LONGEST: Final = 300
_WORD: Final = re.compile(r"(\S+?)=(.*?)(?=\s+\S+?=|$)")


def hint(name: object, known: Iterable[str]) -> str:
    """The hint for an unknown candidate, to be written after "; ". A name with the same value on every axis comes before similar
    ones: "steps=8 sampler=DPM++ 2M Karras" for "sampler=dpmpp_2m_karras steps=08"."""
    names = sorted(known) if isinstance(known, set | frozenset) else list(known)
    same = [other for other in names if _meaning(other) == _meaning(str(name))]
    return f"did you mean {same[0]!r}? Known: {first_of(names, MOST_LISTED)}" if same else did_you_mean(name, names)


def unknown_candidates(names: Iterable[object], known: Collection[str]) -> Iterable[str]:
    """One phrase per name that is not among the known."""
    return (f"unknown candidate {name!r}; {hint(name, known)}" for name in names if name not in known)


def _meaning(name: str) -> Hashable:
    """The values by axis, whatever their order and spelling."""
    text = name[:_LONGEST].strip()
    return frozenset((axis.casefold(), _value(axis.casefold(), value.strip())) for axis, value in _WORD.findall(text)
                     ) or text.casefold()


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
