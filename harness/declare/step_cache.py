"""Declarations of step caches: what a denoiser computed at one step, and uses again at the next ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from harness.declare.normalise import settle


@dataclass(frozen=True, kw_only=True)
class DeepCache:
    """For U-Nets: at every interval-th step the whole U-Net is run, and at the others only its outermost layers, on the hidden
    state that the last whole run gave to them (Ma, Fang and Wang, arXiv 2312.00858)."""

    interval: int = 2
    """At 1 every step is whole, which gives the pictures of no cache bit for bit."""
    branch: int = 0
    """Which hidden state is used again. At 0, that before the last layer of the last block, so that one layer is run on each
    side; at 1, that before the last two."""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class FirstBlock:
    """For transformers: a step whose first block changes its input nearly as at the last whole step takes over what the other
    blocks changed there (diffusers' First Block Cache). It needs a batch size of 1, as one decision holds for a batch."""

    threshold: float = 0.05
    """The largest relative difference at which blocks are left out, of the mean absolute values. At 0 only equal steps are."""

    def __post_init__(self) -> None:
        settle(self)


StepCache: TypeAlias = DeepCache | FirstBlock
