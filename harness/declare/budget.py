"""How images are spent where they decide, and how alphas are searched that no sweep could list."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.declare.models import Merge
from harness.declare.normalise import settle
from harness.declare.to_plain import LEFT_OUT


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Spends images where they decide, instead of sampling the whole grid, which becomes the most that a candidate can get.

    The select prompts are sampled in interim looks: `first_prompts` at the first, `step_prompts` more at each further one.
    Candidates that are significantly worse than the best are sampled no further. The race ends when no remaining candidate can
    be better than the pick by more than `enough` points, when the prompts are used up, or when `images` are spent (0: no such
    limit); the images of the confirm prompts are reserved. `refine` names a numeric axis along which candidates are added
    between the declared ones around the best, until they are `finest` apart. Inconclusive gates get the remaining seeds.

    With `minutes` no look begins that would not be done within so many minutes of the session's start, at its pace so far (0: no
    such limit). The first look, the confirmation and the timing are done in any case; what they will take is reserved.
    """

    images: int = 0
    first_prompts: int = 8
    step_prompts: int = 8
    enough: float = 0.1
    refine: str = ""
    finest: float = 0.05
    minutes: float = field(default=0.0, metadata={LEFT_OUT: True})

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True, kw_only=True)
class Search:
    """Searches alphas by block (see Blocks) that no sweep could list: `trials` proposals of a sampler that learns from earlier
    ones (Optuna's TPE), each sampled on the first `prompts` select prompts at `guidance`. The `presets` are tried first;
    the `keep` best become candidates like the declared ones. Needs the extra sweetspot[search]."""

    merge: Merge
    guidance: float
    blocks: int = 25
    trials: int = 40
    prompts: int = 8
    keep: int = 3
    presets: tuple[str, ...] = ("GRAD_V", "GRAD_A", "FLAT_50", "COSINE")
    seed: int = 0

    def __post_init__(self) -> None:
        settle(self)
