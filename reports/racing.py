"""When a race may stop sampling what has lost, and when it is over: looks at the select prompts with the error spent among them.
Pure; the plugin's race asks, recommendation.py and gates.py take their levels from here."""

from __future__ import annotations

from harness.declare import Suite
from reports.statistics import LEVEL


def seed_looks(seeds: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The seeds that a confirmation, and then an inconclusive gate, may use at each look: the first 1, 2, 4 ... of them."""
    sizes = []
    size = 1
    while size < len(seeds):
        sizes.append(size)
        size *= 2
    return tuple(seeds[:size] for size in (*sizes, len(seeds)))


def gate_level(suite: Suite) -> float:
    """The level of a gate's interval: 95 %, or where a budget allows several looks at the same gate, the level by which all
    looks together err in at most 5 % (Bonferroni: 1 - 0.05 / looks)."""
    return LEVEL if suite.budget is None else 1 - (1 - LEVEL) / len(seed_looks(suite.grid.seeds))
