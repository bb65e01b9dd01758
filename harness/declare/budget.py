"""How images are spent where they decide, and how alphas are searched that no sweep could list."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.declare.models import Merge
from harness.declare.normalise import settle
from harness.declare.younger_fields import LEFT_OUT


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Spends images where they decide, instead of sampling the whole grid, which becomes the most that a candidate can get. See
    docs/running.md#adaptive-sweeps.

    The select prompts are sampled in interim looks. Candidates that are significantly worse than the best are sampled no further.
    The race ends when no remaining candidate can be better than the pick by more than `enough` points, when the prompts are used
    up, or when the images or minutes are spent. Inconclusive gates get the remaining seeds.
    """

    images: int = 0
    """The most in total; 0 for no limit. The images of the confirm prompts are reserved."""
    first_prompts: int = 8
    """Select prompts of the first look."""
    step_prompts: int = 8
    """More at each further look."""
    enough: float = 0.1
    """Points of the objective that no longer matter."""
    refine: str = ""
    """A numeric axis along which candidates are added between the declared ones around the best."""
    finest: float = 0.05
    """The smallest distance of candidates that are added."""
    minutes: float = field(default=0.0, metadata={LEFT_OUT: True})
    """No look begins that would not be done within so many minutes of the session's start, at its pace so far; 0 for no limit.
    The first look, the confirmation and the timing are done in any case; what they will take is reserved."""

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Search:
    """Searches alphas by block (see Blocks) that no sweep could list, with a sampler that learns from earlier proposals (Optuna's
    TPE). Needs the extra sweetspot[search]."""

    merge: Merge
    """The merge whose alpha is searched."""
    guidance: float
    """The guidance scale of the trials, one of the grid's."""
    blocks: int = 25
    """How many values: 26, 25, 20 or 19."""
    trials: int = 40
    """How many proposals are sampled."""
    prompts: int = 8
    """How many select prompts each is sampled on."""
    keep: int = 3
    """How many of the best become candidates like the declared ones."""
    presets: tuple[str, ...] = ("GRAD_V", "GRAD_A", "FLAT_50", "COSINE")
    """Presets of Blocks that are tried first."""
    seed: int = 0
    """The seed of the search."""

    def __post_init__(self) -> None:
        settle(self)
