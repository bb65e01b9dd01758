"""What a verdict consists of: scored cells, comparisons with the controls, and the recommendation that sums them up."""

from __future__ import annotations

from dataclasses import dataclass

from reports.statistics.intervals import Estimate
from reports.statistics.settling import Needed


@dataclass(frozen=True, kw_only=True)
class Family:
    """What decided about cells that are tested together: how many standard errors one may be from the best, the variance that all
    of them have in common (see tied_set.FromBest), and the level that holds for all together."""

    limit: float
    shared: float
    level: float


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One (candidate, guidance) cell of the select split: its objective, and its paired difference from the best cell.

    Only cells that are `complete` and not `ruled_out` (by a constraint, in words) compete for best; `dropped` are cells that
    a look of an adaptive sweep took out of the race, and those are never complete. `family` is what decided whether it is tied.
    """

    candidate: str
    guidance: float
    objective: Estimate
    behind: Estimate
    tied: bool
    complete: bool
    ruled_out: str = ""
    dropped: bool = False
    family: Family | None = None


@dataclass(frozen=True, kw_only=True)
class Settling:
    """The pick minus a candidate that it is tied with, on the prompts of `split`, and how many of these would show a
    difference as large as that. `chosen`: these prompts chose the pick, and the interval holds for all tied cells together."""

    other: str
    guidance: float | None
    split: str
    difference: Estimate
    needed: Needed
    chosen: bool = False


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The pick minus another candidate, in `value`, on the prompts of `split`; `word` is better, worse, tied or not measured."""

    other: str
    role: str
    guidance: float | None
    other_guidance: float | None
    value: str
    split: str
    difference: Estimate
    word: str


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The best candidate and what is known of it. `pick` is None when nothing can be recommended; `sentence` says why, or names
    the pick with its `evidence`: how it compares. Whether to ship it is decided with the gates, in reports.gates.decision.

    `tied_candidates` are those tied at the pick's guidance, `tied_guidances` those tied at the pick;
    `clip_alone` is the (candidate, guidance) with the highest mean CLIP score, had that been the only judge.
    """

    kind: str
    axis: str | None
    pick: str | None
    guidance: float | None
    sentence: str
    rule: str
    cells: tuple[Scored, ...] = ()
    tied_candidates: tuple[str, ...] = ()
    tied_guidances: tuple[float, ...] = ()
    clip_alone: tuple[str, float] | None = None
    clip_alone_at_pick: float | None = None
    comparisons: tuple[Comparison, ...] = ()
    reasons: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()
    evidence: str = ""
    settling: tuple[Settling, ...] = ()
