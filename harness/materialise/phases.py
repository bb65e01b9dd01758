"""Which denoisers and adapters are active in which steps: a denoising run is split into phases of steps with the same ones.
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
"""Tolerance for rounding: 0.3 times 10 steps must count as 3."""


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One denoiser that predicts in a phase; `weight` is its share of the phase's prediction. `enter` makes it live and returns
    its pipeline. `treatment` says how its positive prompts are embedded; negative prompts get only its words. `text_identity`
    changes exactly when an embedding changes."""

    enter: Callable[[], Pipeline]
    treatment: Treatment
    text_identity: str
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A candidate from step `first` until the next phase: the branches that predict together. Most phases have one."""

    first: int
    branches: tuple[Branch, ...]

    def enter(self) -> Pipeline:
        """Makes every branch live, and returns the pipeline of the first. All of them decode with the same VAE."""
        pipeline, *_ = [branch.enter() for branch in self.branches]
        return pipeline


def spans_of(adapters: Sequence[Adapter], steps: int) -> list[tuple[int, tuple[Adapter, ...]]]:
    """(first step, the adapters that are active from it) for every span of the `steps` steps, in order.

    An adapter is active in step i if start <= i / steps < end. Raises MaterialiseError for an adapter that is never active.
    """
    within = {index: (_first(adapter.start, steps), _first(adapter.end, steps)) for index, adapter in enumerate(adapters)}
    for index, (first, stop) in within.items():
        if first >= stop:
            adapter = adapters[index]
            raise MaterialiseError(f"adapter {adapter.path!r} from {adapter.start:g} to {adapter.end:g} is active in none of the "
                                   f"{steps} steps; give it a longer range, or sample with more steps")
    cuts = sorted({0, *(edge for pair in within.values() for edge in pair if edge < steps)})
    return [(cut, tuple(adapter for index, adapter in enumerate(adapters) if within[index][0] <= cut < within[index][1]))
            for cut in cuts]


def _first(share: float, steps: int) -> int:
    """The index of the first step at or after this share of the steps."""
    return ceil(share * steps - _NEARLY)
