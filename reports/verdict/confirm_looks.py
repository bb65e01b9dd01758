"""The looks at the confirm prompts that a budget allows, and the level that follows from them for the intervals of gates and of
comparisons with the controls. Pure."""

from __future__ import annotations

from harness.declare import Suite
from harness.records.gate_kinds import gate_kind
from reports.statistics.intervals import LEVEL


def seed_looks(seeds: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The seeds that a confirmation, and then an inconclusive gate, may use at each look: the first 1, 2, 4 ... of them."""
    sizes = []
    size = 1
    while size < len(seeds):
        sizes.append(size)
        size *= 2
    return tuple(seeds[:size] for size in (*sizes, len(seeds)))


def confirm_looks(suite: Suite) -> tuple[tuple[int, ...], ...]:
    """The seeds of the confirmation and of the looks that gates may ask for after it: those of `seed_looks`, or all at once where
    no gate is about images, so that nothing could ask for more."""
    asks = any(gate_kind(gate.value).of_images for gate in suite.gates)
    return seed_looks(suite.grid.seeds) if asks else (suite.grid.seeds,)


def gate_level(suite: Suite) -> float:
    """The level of a gate's interval, and of the comparisons with the controls: 95 %, or where a budget allows several looks at
    the confirm prompts, the level by which all looks together err in at most 5 % (Bonferroni: 1 - 0.05 / looks)."""
    return LEVEL if suite.budget is None else 1 - (1 - LEVEL) / len(confirm_looks(suite))
