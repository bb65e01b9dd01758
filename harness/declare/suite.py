"""The declaration of a whole comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from harness.declare.budget import Budget, Search
from harness.declare.candidate import Candidate
from harness.declare.gate import Gate
from harness.declare.grid import Grid
from harness.declare.normalise import settle
from harness.declare.objective import Objective
from harness.declare.pose import Pose
from harness.declare.stage_candidates import with_encoder
from harness.declare.younger_fields import LEFT_OUT

CALIBRATION: Final = ".calibration"
"""What `sweetspot calibrate` puts after a suite's name, so that a run folder of its own holds the calibration."""
MOST_ROUNDS: Final = 10_000
"""Timed rounds of each candidate."""
MOST_IN_BATCH: Final = 4096
"""Images of a batch."""
MOST_SECONDS: Final = 7 * 24 * 3600
"""Of the timing of a suite."""
MOST_IMAGES: Final = 1_000_000
"""Images that a suite may declare: eleven days at one a second. A run.json of some kB could declare any number."""
ROUNDS_FOR_MEDIAN: Final = 6
"""Timed rounds whose range, from the fastest to the slowest, covers the true median with 95 %; a gate on latency needs them."""


class DefaultClip(str):
    """The `clip` of a suite that names none. It reads like the built-in model, which must not score other models unasked."""

    __slots__ = ()


DEFAULT_CLIP: Final = DefaultClip("zoo:clip")


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A comparison: what is tried, on what, what "best" means, and what must hold."""

    name: str
    """The name of its run folder: letters, digits, `-`, `_` and `.`."""
    candidates: tuple[Candidate, ...]
    """What is compared, usually from a sweep."""
    baseline: str
    """The name of the candidate that the others are compared with. PSNR and palette drift are taken against its image of the same
    prompt, seed and guidance."""
    grid: Grid
    """Prompts, seeds, guidance scales, and how images are sampled."""
    metrics: tuple[str, ...] = ("clip_score", "palette", "exposure")
    """What is measured on every image, see docs/api.md#metrics."""
    objective: Objective = field(default_factory=Objective)
    """What "best" means."""
    gates: tuple[Gate, ...] = ()
    """What a candidate must meet to be promoted."""
    clip: str = DEFAULT_CLIP
    """The model of the CLIP score: "ARCHITECTURE/TAG", weights that open_clip knows and the local cache of Hugging Face holds, or
    "ARCHITECTURE:file", your own copy. The built-in "zoo:clip" scores only the built-in models without being asked to."""
    latency_rounds: int = ROUNDS_FOR_MEDIAN
    """Images of each candidate that are timed at batch size 1, in rounds that alternate between the candidates. A gate on latency
    needs 6."""
    latency_budget_seconds: float = 0.0
    """More rounds follow until these seconds are used up, or p90 can be estimated (29 rounds)."""
    largest_batch: int = 0
    """Measures throughput and memory at batch sizes 1, 2, 4 ... up to this one; 0 for none."""
    styles: Mapping[str, str] = field(default_factory=dict)
    """A text for CLIP by the name of each style: {"anime": "an anime drawing"}. The metric "styles" says which of them each image
    looks like."""
    budget: Budget | None = None
    """Spends images where they decide, instead of on the whole grid."""
    search: Search | None = None
    """Searches alphas by block."""
    description: str = ""
    """A sentence for the page."""
    pose: Pose | None = field(default=None, metadata={LEFT_OUT: True})
    """The poses that the metric "pose" compares images with, and the detector of persons."""

    def __post_init__(self) -> None:
        settle(self)
        if isinstance(self.candidates, tuple) and isinstance(self.clip, str):
            object.__setattr__(self, "candidates", tuple(
                with_encoder(one, str(self.clip)) if isinstance(one, Candidate) and isinstance(one.references, tuple)
                and isinstance(one.stages, tuple) else one for one in self.candidates))

    @property
    def images(self) -> int:
        """How many images all candidates have on their whole grids."""
        scales = sum(len(self.grid.guidance_scales) if c.sampling is None or c.sampling.scales is None else len(c.sampling.scales)
                     for c in self.candidates)
        return scales * len(self.grid.prompts) * len(self.grid.seeds)

    def gate_name(self, gate: Gate) -> str:
        """The id of one of the gates: its name, or its long name where another gate has the same name."""
        return gate.name if sum(other.name == gate.name for other in self.gates) < 2 else gate.long_name
