"""What must hold before a candidate is promoted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from harness.declare.normalise import settle

BASELINE: Final = "baseline"
"""As a gate's `not_worse_than`: the suite's own baseline candidate."""
PROMOTED: Final = "promoted"
"""As a gate's `not_worse_than`: the candidate that was promoted last from this suite, by the values in its baseline file."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A condition a candidate must meet before it is promoted.

    `value` is a measured value ("clip_score", "clipped_share", "palette_drift", "psnr_db", "seconds_per_image", "peak_bytes"),
    or one of "coverage" (every key accounted for), "identities" (the merge method keeps its algebra on this model's own
    tensors), "failures" (how many stages failed), "failure_rate" (the share of images that are missing or unusable).
    Exactly one limit is given: `at_least`, `at_most`, or `not_worse_than` (a candidate's name, BASELINE or PROMOTED) with a
    `margin` in the value's unit, or with a `ratio`: at most 1.1 times the other's, or at least 0.95 times where more is
    better. `candidates` names those it applies to; empty means the recommended pick of the suite.
    """

    value: str
    at_least: float | None = None
    at_most: float | None = None
    not_worse_than: str | None = None
    margin: float = 0.0
    ratio: float | None = None
    candidates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        settle(self)

    @property
    def name(self) -> str:
        """Readable id: "clip_score not_worse_than baseline"."""
        limits = [("at_least", self.at_least), ("at_most", self.at_most), ("not_worse_than", self.not_worse_than)]
        words = " ".join(f"{word} {limit:g}" if isinstance(limit, float | int) else f"{word} {limit}"
                        for word, limit in limits if limit is not None)
        return f"{self.value} {words}".strip()

    @property
    def long_name(self) -> str:
        """`name` with everything else that tells gates apart: "clip_score at_least 24 for alpha=0.5, alpha=0.65"."""
        limits = [("at_least", self.at_least), ("at_most", self.at_most), ("not_worse_than", self.not_worse_than),
                  ("margin", self.margin or None), ("ratio", self.ratio)]
        words = "".join(f" {word} {repr(limit).removesuffix('.0') if isinstance(limit, float) else limit}"
                        for word, limit in limits if limit is not None)
        return f"{self.value}{words}{' for ' if self.candidates else ''}{', '.join(self.candidates)}"
