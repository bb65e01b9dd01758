"""How far people who rated the same images agree, with each other and with themselves. Pure functions on arrays of scores, one
row per image and one column per rater, NaN where a rater gave none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

RELIABLE: Final = 0.8
TENTATIVE: Final = 2 / 3
"""Krippendorff's own limits: from 0.8 on conclusions may be drawn, from 0.667 on tentative ones, below it none."""
Scores = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Alpha with its 95 % interval, or None and why. `units` are the images with at least two raters."""

    alpha: float | None
    low: float | None
    high: float | None
    units: int
    raters: int
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Retest:
    """A rater against themself: `pairs` of showings, how far apart the scores are on average, how many are at most 1 apart."""

    pairs: int
    apart: float
    close: int


def krippendorff_alpha(scores: Scores) -> float | None:
    """Krippendorff's alpha for interval data: 1 - D_o / D_e.

    `scores` is [images, raters], float64, in any unit. With m_u scores of image u and n of them in all (images with fewer
    than two do not count), D_o = (1/n) sum_u sum_{i != j} (v_ui - v_uj)^2 / (m_u - 1) is the disagreement within images and
    D_e = sum over all pairs of scores, of whichever image, / (n (n - 1)) the one that chance would give. 1 is perfect, 0 is
    chance; below 0 the raters contradict each other. Without units: absent scores are left out, not filled in. None where
    fewer than two images can be compared, or where all scores are equal, which says nothing about agreement.
    Krippendorff, Content Analysis (2004), chapter 11; Computing Krippendorff's Alpha-Reliability (2011).
    """
    counts, sums, squares = _moments(scores)
    alphas = _alphas(counts[None], sums[None], squares[None]) if len(counts) > 1 else np.array([np.nan])
    return None if np.isnan(alphas[0]) else float(alphas[0])


def agreement(scores: Scores, level: float = 0.95, draws: int = 1999, seed: int = 7) -> Agreement:
    """Alpha and its interval by the bootstrap over images (percentiles of `draws` resamples with a fixed `seed`).

    `scores` as in `krippendorff_alpha`. Resamples whose scores are all equal have no alpha and are left out; where more
    than half are, there is no interval.
    """
    counts, sums, squares = _moments(scores)
    raters = int((~np.isnan(scores)).any(axis=0).sum()) if scores.size else 0
    alpha = krippendorff_alpha(scores)
    if alpha is None:
        why = ("one rater only" if raters == 1 else "fewer than two images have two raters" if len(counts) < 2
               else "all scores are equal, which says nothing about agreement")
        return Agreement(alpha=None, low=None, high=None, units=len(counts), raters=raters, why=why)
    drawn = np.random.default_rng(seed).integers(0, len(counts), (draws, len(counts)))
    alphas = _alphas(counts[drawn], sums[drawn], squares[drawn])
    alphas = alphas[~np.isnan(alphas)]
    if len(alphas) < draws / 2:
        return Agreement(alpha=alpha, low=None, high=None, units=len(counts), raters=raters, why="too few images that differ")
    low, high = np.quantile(alphas, ((1 - level) / 2, (1 + level) / 2))
    return Agreement(alpha=alpha, low=float(low), high=float(high), units=len(counts), raters=raters)


def intraclass(scores: Scores) -> tuple[float, float] | None:
    """ICC(2,1) and ICC(2,k): how far one rater's score, and the mean of all k raters, would be that of other raters.

    Two-way random effects, absolute agreement, over the n images that all k raters rated: with the mean squares of images
    (R), raters (C) and the rest (E), ICC(2,1) = (R - E) / (R + (k-1) E + k (C - E) / n) and ICC(2,k) = (R - E) /
    (R + (C - E) / n). None with fewer than two such images or raters, or without any spread. Shrout and Fleiss,
    Psychological Bulletin 86 (1979) 420.
    """
    used = scores[:, ~np.isnan(scores).all(axis=0)] if scores.size else scores
    whole = used[~np.isnan(used).any(axis=1)] if used.size else used
    n, k = whole.shape if whole.ndim == 2 else (0, 0)
    if n < 2 or k < 2:
        return None
    rest = whole - whole.mean(axis=1, keepdims=True) - whole.mean(axis=0) + whole.mean()
    images = k * whole.mean(axis=1).var(ddof=1)
    raters = n * whole.mean(axis=0).var(ddof=1)
    error = float((rest**2).sum()) / ((n - 1) * (k - 1))
    single, mean = images + (k - 1) * error + k * (raters - error) / n, images + (raters - error) / n
    if min(single, mean) <= 1e-12:
        return None
    return float((images - error) / single), float((images - error) / mean)


def offsets(scores: Scores) -> list[float | None]:
    """By rater the mean of own score minus the others' mean, over the images that others rated too; None without any.

    `scores` as in `krippendorff_alpha`; the result is in their unit. A rater at +1 is a point milder than the others.
    """
    differences: list[float | None] = []
    for rater in range(scores.shape[1]):
        others = np.delete(scores, rater, axis=1)
        both = ~np.isnan(scores[:, rater]) & (~np.isnan(others)).any(axis=1)
        differences.append(float((scores[both, rater] - np.nanmean(others[both], axis=1)).mean()) if both.any() else None)
    return differences


def centred(scores: Scores) -> Scores | None:
    """The scores with each rater's own level taken off: their mean over the images that all rated, so that a rater is not
    taken for mild who was shown the better pictures. Columns without scores are dropped. None with fewer than two such images
    or raters. Alpha of the result tells whether raters agree on which images are better than others, if not on how good."""
    used = scores[:, ~np.isnan(scores).all(axis=0)] if scores.size else scores
    shared = used[~np.isnan(used).any(axis=1)] if used.size else used
    if shared.ndim < 2 or min(shared.shape) < 2:
        return None
    return np.asarray(used - shared.mean(axis=0), dtype=np.float64)


def retest(first: Sequence[float], second: Sequence[float]) -> Retest | None:
    """A rater's scores of the same images at two showings, in points; None without a pair."""
    apart = np.abs(np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64))
    if not len(apart):
        return None
    return Retest(pairs=len(apart), apart=float(apart.mean()), close=int((apart <= 1).sum()))


def _moments(scores: Scores) -> tuple[Scores, Scores, Scores]:
    """Count, sum and sum of squares of the scores of every image with at least two; centred, so that equal scores cancel."""
    counts = (~np.isnan(scores)).sum(axis=1) if scores.size else np.zeros(0)
    rated = scores[counts >= 2] if scores.size else np.zeros((0, 1))
    centred = rated - np.nanmean(rated) if rated.size else rated
    return (counts[counts >= 2].astype(np.float64), np.nansum(centred, axis=1), np.nansum(centred**2, axis=1))


def _alphas(counts: Scores, sums: Scores, squares: Scores) -> Scores:
    """Alpha of every row of [resamples, images] moments; NaN where all its scores are equal."""
    n = counts.sum(axis=1)
    observed = (2 * (counts * squares - sums**2) / (counts - 1)).sum(axis=1) / n
    expected = 2 * (n * squares.sum(axis=1) - sums.sum(axis=1)**2) / (n * (n - 1))
    usable = expected > 1e-9
    return np.where(usable, 1 - observed / np.where(usable, expected, 1.0), np.nan)
