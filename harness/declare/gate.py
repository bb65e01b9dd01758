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
    """A condition that a candidate must meet before it is promoted. Exactly one limit is given: `at_least`, `at_most`, or
    `not_worse_than` with a `margin` or a `ratio`. See docs/gates.md."""

    value: str
    """One of the values in docs/api.md#values that the suite measures or counts."""
    at_least: float | None = None
    """The lower limit."""
    at_most: float | None = None
    """The upper limit."""
    not_worse_than: str | None = None
    """A candidate's name, BASELINE or PROMOTED."""
    margin: float = 0.0
    """How much worse it may be, in the value's unit."""
    ratio: float | None = None
    """Or how many times the other's value: at most 1.1 times, or at least 0.95 times where more is better."""
    candidates: tuple[str, ...] = ()
    """Whom it judges; empty means the recommended pick of the suite."""

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
