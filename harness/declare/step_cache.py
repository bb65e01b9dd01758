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


@dataclass(frozen=True, kw_only=True)
class TaylorSeer:
    """For transformers: at most steps attention is extrapolated from those that were whole (Liu et al., arXiv 2503.06923), by
    diffusers' TaylorSeer cache with factors in float32. It needs a batch size of 1."""

    interval: int = 3
    """After the first steps, attention is computed at every interval-th."""
    warm_up: int = 3
    """How many steps are whole at the beginning."""
    order: int = 1
    """The highest power of the series: at 0 the last values are used again, at 1 they go on in a straight line."""

    def __post_init__(self) -> None:
        settle(self)

    def predicts(self, step: int) -> bool:
        """Whether attention is extrapolated at a step, counted from 0."""
        return step >= self.warm_up and (step - self.warm_up - 1) % self.interval != 0


@dataclass(frozen=True, kw_only=True)
class MagCache:
    """For transformers: steps at which the blocks change their input by nearly as much as at the step before take over that
    change (Ma et al., arXiv 2506.09045), by diffusers' MagCache. It needs a batch size of 1."""

    threshold: float = 0.06
    """The largest error, accumulated over the steps in a row that are left out."""
    max_skip_steps: int = 3
    """How many steps in a row may be left out."""
    retention_ratio: float = 0.2
    """The share of the steps, from the first on, that are whole."""
    ratios: tuple[float, ...] = ()
    """How much the blocks change their input at each step, as a multiple of the step before, measured on the model; stretched to
    the number of steps. Empty for those that diffusers has for Flux."""

    def __post_init__(self) -> None:
        settle(self)


StepCache: TypeAlias = DeepCache | FirstBlock | TaylorSeer | MagCache
