"""Shares of the denoising steps, in which adapters act and models take turns, as numbers of steps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from typing import Final, TypeAlias

from harness.declare.guiding import Control, Reference
from harness.declare.models import Adapter

Acting: TypeAlias = Adapter | Control | Reference
_NEARLY: Final = 1e-9
"""Tolerance for rounding: 0.3 times 10 steps must count as 3."""


def first_step(share: float, steps: int) -> int:
    """The index of the first of `steps` steps at or after this share: step i of n is at i / n."""
    return ceil(share * steps - _NEARLY)


def idle_span(one: Acting, steps: int) -> str:
    """Why an adapter, a control or a reference acts in no step; empty if it acts in one: step i if start <= i / steps < end."""
    if first_step(one.start, steps) < first_step(one.end, steps):
        return ""
    return (f"{type(one).__name__.lower()} {one.path!r} from {one.start:g} to {one.end:g} is active in none of the {steps} "
            "steps; give it a longer range, or sample with more steps")


def hand_overs(at: Sequence[float], steps: int, run: int | None = None) -> list[int]:
    """The steps at which the later models of a relay take over, of shares that increase, counted from the first step that is run.
    Where only the last `run` of the steps are, shares are still of all: each model acts at the noise at which it acts without a
    picture to begin from, as diffusers' denoising_end has it. Raises ValueError if one of the models has none of the steps."""
    run = steps if run is None else run
    edges = [first_step(share, steps) - (steps - run) for share in at]
    for number, (begin, end) in enumerate(pairwise([0, *edges, run]), 1):
        if begin >= end:
            part = f", of which the last {run} are run" if run < steps else ""
            way_out = ("give more strength, or declare the models alone that run a step" if run < steps else
                       "sample with more steps")
            raise ValueError(f"the relay hands over at {', '.join(f'{share:g}' for share in at)} of {steps} steps{part}, so its "
                             f"model number {number} runs none of them; move the hand-over, or {way_out}")
    return edges
