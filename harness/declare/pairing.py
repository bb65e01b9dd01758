"""Which image of one candidate stands beside an image of another: the rule of all metrics that need the baseline's image, of
gates that name another candidate, and of comparisons.

Initial noise follows from prompt, seed and size alone, so images of other samplers, steps and guidance scales are pairs where
they show the same prompt at the same seed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.declare.candidate import Candidate
from harness.declare.effective_grid import grid_of
from harness.declare.grid import Grid
from harness.declare.suite import Suite


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """The guidance scale of the other candidate's image of the same prompt and seed, or None and the reason."""

    scale: float | None
    why: str = ""


def counterpart(scales: Iterable[float], guidance: float) -> float | None:
    """The one of a candidate's guidance scales that stands beside another candidate's `guidance`: the same, or else its only
    one. None where it has several others, of which none is the right one."""
    known = list(dict.fromkeys(map(float, scales)))
    return float(guidance) if float(guidance) in known else known[0] if len(known) == 1 else None


def pairing(mine: Grid, other: Grid, guidance: float) -> Pairing:
    """The pair of an image at `guidance` on the effective grid `mine` among those of the effective grid `other`."""
    if (mine.width, mine.height) != (other.width, other.height):
        return Pairing(scale=None, why=f"its images are {mine.width} x {mine.height} pixels and those of the other candidate "
                                       f"{other.width} x {other.height}, which begin with other noise")
    if (scale := counterpart(other.guidance_scales, guidance)) is None:
        listed = ", ".join(f"{known:g}" for known in other.guidance_scales)
        return Pairing(scale=None, why=f"the other candidate is sampled at CFG {listed}, of which none is the counterpart of "
                                       f"CFG {guidance:g}")
    return Pairing(scale=scale)


def with_baseline(suite: Suite, candidate: Candidate | None, guidance: float) -> Pairing:
    """The pair of a candidate's image among those of the suite's baseline; a candidate that is not declared is sampled as the
    grid says."""
    if suite.grid.sampling is None and (candidate is None or candidate.sampling is None) and _plain_baseline(suite):
        return Pairing(scale=float(guidance))
    baseline = next((c for c in suite.candidates if c.name == suite.baseline), None)
    return pairing(grid_of(suite, candidate), grid_of(suite, baseline), guidance)


def _plain_baseline(suite: Suite) -> bool:
    return all(c.sampling is None for c in suite.candidates if c.name == suite.baseline)
