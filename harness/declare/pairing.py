"""Which image of one candidate stands beside an image of another: the rule of all metrics that need the baseline's image, of
gates that name another candidate, and of comparisons.

Initial noise follows from prompt, seed and size alone, so images of other samplers, steps and guidance scales are pairs where
they show the same prompt at the same seed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.declare.candidate import Candidate
from harness.declare.effective_grid import grid_of, picture_size
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


def pairing(suite: Suite, mine: Candidate | None, other: Candidate | None, guidance: float) -> Pairing:
    """The pair of an image of the candidate `mine` at `guidance` among those of `other`; None is a candidate that is not declared
    and is sampled as the grid says."""
    own, theirs = picture_size(suite, mine), picture_size(suite, other)
    if own != theirs:
        return Pairing(scale=None, why=f"its images are {own[0]} x {own[1]} pixels and those of the other candidate "
                                       f"{theirs[0]} x {theirs[1]}, which cannot be compared pixel by pixel")
    scales = grid_of(suite, other).guidance_scales
    if (scale := counterpart(scales, guidance)) is None:
        listed = ", ".join(f"{known:g}" for known in scales)
        return Pairing(scale=None, why=f"the other candidate is sampled at CFG {listed}, of which none is the counterpart of "
                                       f"CFG {guidance:g}")
    return Pairing(scale=scale)


def with_baseline(suite: Suite, candidate: Candidate | None, guidance: float) -> Pairing:
    """The pair of a candidate's image among those of the suite's baseline; a candidate that is not declared is sampled as the
    grid says."""
    if suite.grid.sampling is None and (candidate is None or _is_plain(candidate)) and _plain_baseline(suite):
        return Pairing(scale=float(guidance))
    baseline = next((c for c in suite.candidates if c.name == suite.baseline), None)
    return pairing(suite, candidate, baseline, guidance)


def _plain_baseline(suite: Suite) -> bool:
    return all(_is_plain(c) for c in suite.candidates if c.name == suite.baseline)


def _is_plain(candidate: Candidate) -> bool:
    """Whether the size of a candidate's images and its guidance scales are the grid's."""
    return candidate.sampling is None and not candidate.stages and not candidate.post
