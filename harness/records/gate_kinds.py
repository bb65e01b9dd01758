"""The kinds of gates: which values each judges, which limits it takes, and what can decide it.

How a kind judges is in its file in reports/gates; a test keeps the two tables in agreement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Noise = Literal["none", "rounds", "reading", "images"]

LIMITS: Final = ("at_least", "at_most", "not_worse_than")
IMAGES: Final = "images"
"""The kind of a gate on any value that no other kind judges."""


@dataclass(frozen=True, kw_only=True)
class GateKind:
    """One kind of gate. `values` are the names of the values it judges; empty means every value that no other kind judges.

    `limits` are the limits a gate may give, of which it gives exactly one; empty means that a gate takes no limit, and
    `why_limits` says why. A kind that takes not_worse_than also takes a margin or a ratio.
    `exact`: the value is an integer without an interval; such a gate is not drawn, and its default limit is 0.
    `of_images`: more images can decide it, so a race may request them.
    `noise` is the source of differences between two equal candidates: nothing, timing rounds, a single reading, or images.
    `kept` is the text shown instead of the value and its limit if the limit is 0.
    """

    values: tuple[str, ...] = ()
    limits: tuple[str, ...] = LIMITS
    why_limits: str = ""
    exact: bool = False
    of_images: bool = False
    noise: Noise = "images"
    kept: str = ""


GATE_KINDS: Final[Mapping[str, GateKind]] = MappingProxyType({
    "coverage": GateKind(values=("coverage",), limits=(), why_limits="every key must be accounted for", exact=True, noise="none",
                         kept="All tensors accounted for"),
    "identities": GateKind(values=("identities",), limits=(), why_limits="every identity must hold", exact=True, noise="none",
                           kept="The merge's identities hold"),
    "failures": GateKind(values=("failures",), limits=("at_most",), why_limits="failures are counted", exact=True, noise="none",
                         kept="No candidate failed"),
    "failure_rate": GateKind(values=("failure_rate",), limits=("at_most",), why_limits="fewer failed images are better",
                             noise="none"),
    "latency": GateKind(values=("seconds_per_image",), noise="rounds"),
    "memory": GateKind(values=("peak_bytes", "weights_bytes"), noise="reading"),
    "ratings": GateKind(values=("rating", "preferred")),
    IMAGES: GateKind(of_images=True),
})


def kind_of(value: str) -> str:
    """The name of the kind of gate that judges a value."""
    return next((name for name, kind in GATE_KINDS.items() if value in kind.values), IMAGES)


def gate_kind(value: str) -> GateKind:
    """The kind of gate that judges a value."""
    return GATE_KINDS[kind_of(value)]
