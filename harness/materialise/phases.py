"""Which adapters work in which steps: the stretches of a denoising run between which styles are switched.
The workbench makes one phase of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from harness.declare import Adapter
from harness.materialise.library import MaterialiseError
from harness.text import Treatment
from harness.weights import Pipeline

_NEARLY = 1e-9
"""Shares such as 0.3 times 10 steps must count as the whole number that they mean."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A candidate from step `first` on, until the next phase. `enter` makes it live and gives its pipeline; `treatment` is
    how its positive prompts are embedded, negative ones with the words alone. `text_identity` changes with whatever changes
    an embedding, and with nothing else."""

    first: int
    enter: Callable[[], Pipeline]
    treatment: Treatment
    text_identity: str


def spans_of(adapters: Sequence[Adapter], steps: int) -> list[tuple[int, tuple[Adapter, ...]]]:
    """(first step, the adapters that work from there on) for every stretch of `steps` steps, in order.

    Step i is done with an adapter where start <= i / steps < end. Raises MaterialiseError for one that works in no step.
    """
    within = {index: (_first(adapter.start, steps), _first(adapter.end, steps)) for index, adapter in enumerate(adapters)}
    for index, (first, stop) in within.items():
        if first >= stop:
            adapter = adapters[index]
            raise MaterialiseError(f"adapter {adapter.path!r} from {adapter.start:g} to {adapter.end:g} works in none of "
                                   f"{steps} steps; give a longer stretch or more steps")
    cuts = sorted({0, *(edge for pair in within.values() for edge in pair if edge < steps)})
    return [(cut, tuple(adapter for index, adapter in enumerate(adapters) if within[index][0] <= cut < within[index][1]))
            for cut in cuts]


def _first(share: float, steps: int) -> int:
    """The first step at or after a share of the steps."""
    return ceil(share * steps - _NEARLY)
