"""Shares of the denoising steps, in which adapters act and models take turns, as numbers of steps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from typing import Final

_NEARLY: Final = 1e-9
"""Tolerance for rounding: 0.3 times 10 steps must count as 3."""


def first_step(share: float, steps: int) -> int:
    """The index of the first of `steps` steps at or after this share: step i of n is at i / n."""
    return ceil(share * steps - _NEARLY)


def hand_overs(at: Sequence[float], steps: int) -> list[int]:
    """The steps at which the later models of a relay take over, of shares that increase. Raises ValueError if one of the models
    has none of the steps."""
    edges = [first_step(share, steps) for share in at]
    for number, (begin, end) in enumerate(pairwise([0, *edges, steps]), 1):
        if begin >= end:
            raise ValueError(f"the relay hands over at {', '.join(f'{share:g}' for share in at)} of {steps} steps, so its model "
                             f"number {number} runs none of them; move the hand-over, or sample with more steps")
    return edges
