"""The steps in which guidance acts."""

from __future__ import annotations

from math import ceil
from typing import Final

from harness.declare import Sampling

_NEARLY: Final = 1e-9
"""Tolerance for rounding: 0.3 times 10 steps must count as 3."""


def guided_steps(knobs: Sampling, steps: int) -> range:
    """The steps with guidance: step i of n if start <= i / n < end, as for the adapters of some of the steps."""
    start, end = (ceil((default if share is None else share) * steps - _NEARLY)
                  for share, default in ((knobs.guidance_start, 0.0), (knobs.guidance_end, 1.0)))
    return range(start, end)
