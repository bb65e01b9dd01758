"""Which cells cannot be distinguished from the best one, all of them tested together: functions on an array of prompt means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from reports.statistics.intervals import LEVEL

Floats = NDArray[np.float64]

DRAWS: Final = 2048
SEED: Final = 20261
FEWEST_BEYOND: Final = 2.0
"""Patterns of signs, of 2^P, that must lie beyond the quantile. All signs turned round give the same distances, so the data's own
pattern always comes twice: where fewer than two lie beyond, as with 8 prompts at the levels of seven looks, nothing could ever be
left out, however far apart. There Bonferroni's bound stands in; where both can be had, the signs find more."""
MOST_AT_ONCE: Final = 2_000_000
"""Numbers in one array of draws x cells: more cells take more time, not more memory."""
PRIOR_PROMPTS: Final = 4.0
"""How many prompts the variance that the cells have in common is worth beside a cell's own."""


@dataclass(frozen=True, kw_only=True)
class FromBest:
    """Every cell minus the best one: all arrays have length C. `half` is the half width of the interval that decided
    about the cell, `tied` whether that interval includes 0; `best` is the column with the highest mean. Of the last step, among
    the tied cells: `limit` is how many standard errors one may be from the best, `shared` the variance that all borrow from."""

    best: int
    mean: Floats
    half: Floats
    tied: NDArray[np.bool_]
    limit: float
    shared: float


def from_best(scores: Floats, level: float = LEVEL, draws: int = DRAWS, seed: int = SEED) -> FromBest:
    """The cells that are tied with the best one; a cell that is truly best is left out in at most 1 - level of runs.

    `scores` has the shape (P prompts, C cells), the mean of each cell's images of each prompt, with no NaN. With b the cell
    of the highest mean and d_i = mean_b - mean_i >= 0, the statistic is max_i d_i / e_i, where e_i^2 = (k v + (P-1) s_i^2) /
    ((k + P - 1) P) weighs the variance s_i^2 of the P differences with v, twice the cells' median mean square, worth
    k = PRIOR_PROMPTS prompts. Its quantile comes from flipping the sign of whole prompts (each prompt's row, less its mean
    over cells, times -1 or +1), the choice of b repeated in each draw: when no cells differ and rows are symmetric, that is
    an exact test, whatever the correlation between cells. Cells beyond the quantile are left out, and the rest tested
    again among themselves until none is beyond. Where fewer than FEWEST_BEYOND patterns lie beyond the level, the quantile is
    that of t with P - 1 degrees of freedom at (1 - level) / (number of pairs of cells), and v twice the cells' median variance:
    no signs are flipped there that it would have to be the same for.

    Raises ValueError for fewer than two prompts, NaN or infinities. Romano and Wolf, JASA 100 (2005) 94, for stepping down;
    Hansen, Lunde and Nason, Econometrica 79 (2011) 453, for sets that hold the best; Smyth, Statistical Applications in
    Genetics and Molecular Biology 3 (2004) 3, for variances that borrow from each other.
    """
    if scores.ndim != 2 or len(scores) < 2 or not np.isfinite(scores).all():
        raise ValueError(f"an array of finite prompt means, prompts x cells, with two or more prompts is needed, got shape "
                         f"{scores.shape} with {int((~np.isfinite(scores)).sum())} values that are not finite")
    prompts, cells = scores.shape
    signs = _signs(prompts, draws, np.random.default_rng(seed))
    mean = scores.mean(axis=0)
    best = int(mean.argmax())
    half, alive = np.zeros(cells), np.arange(cells)
    coarse = (len(signs) - 1) * (1 - level) < FEWEST_BEYOND
    while True:
        remaining = scores[:, alive]
        distance, error, shared = _distances(remaining, np.ones((1, prompts)), around_means=coarse)
        if coarse:
            pairs = max(1, len(alive) * (len(alive) - 1) // 2)
            limit = float(student_t.ppf(1 - (1 - level) / (2 * pairs), prompts - 1))
        else:
            limit = _quantile(remaining, signs, level)
        half[alive] = limit * error[0]
        half[best] = 0.0
        beyond = distance[0] > half[alive]
        if not beyond.any():
            break
        alive = alive[~beyond]
    tied = np.zeros(cells, dtype=np.bool_)
    tied[alive] = True
    return FromBest(best=best, mean=mean - mean[best], half=half, tied=tied, limit=limit, shared=shared)


def _signs(prompts: int, draws: int, rng: np.random.Generator) -> Floats:
    """Every pattern of signs when there are no more than `draws` of them, otherwise that many random ones, the first all +1."""
    if 2**prompts <= draws:
        bits = (np.arange(2**prompts)[:, None] >> np.arange(prompts)) & 1
        return (1 - 2 * bits).astype(np.float64)
    signs = rng.choice(np.array([-1.0, 1.0]), (draws, prompts))
    signs[0] = 1.0
    return signs


def _quantile(scores: Floats, signs: Floats, level: float) -> float:
    """The `level` quantile, over the draws, of the largest distance from the best in standard errors."""
    largest = []
    step = max(1, MOST_AT_ONCE // scores.shape[1])
    for start in range(0, len(signs), step):
        distance, error, _ = _distances(scores, signs[start:start + step])
        ratio = np.divide(distance, error, out=np.zeros_like(distance), where=error > 0)
        largest.append(ratio.max(axis=1))
    return float(np.quantile(np.concatenate(largest), level, method="higher"))


def _distances(scores: Floats, signs: Floats, *, around_means: bool = False) -> tuple[Floats, Floats, float]:
    """For every row of signs (D, P): how far each cell's mean is below the best cell's of that row, and its error; (D, C). Then
    the variance that the cells have in common: twice their mean square, which no sign changes, or with `around_means` their
    variance."""
    prompts = len(scores)
    rows = scores - scores.mean(axis=1, keepdims=True)
    # Rounding makes equal images differ by 1e-14: without this they would be infinitely many standard errors apart.
    rows[np.abs(rows) < 1e-12 * max(1.0, float(np.abs(scores).max()))] = 0.0
    mean = signs @ rows / prompts
    best = mean.argmax(axis=1)
    square = (rows**2).sum(axis=0)
    chosen, back = np.unique(best, return_inverse=True)
    gap = (square[chosen, None] + square[None, :] - 2 * rows[:, chosen].T @ rows)[back]
    distance = mean[np.arange(len(best)), best][:, None] - mean
    own = np.maximum(gap / prompts - distance**2, 0.0) * prompts / (prompts - 1)
    common = rows.var(axis=0, ddof=1) if around_means else square / prompts
    shared = 2.0 * float(np.median(common))
    return distance, np.sqrt(moderated(own, shared, prompts) / prompts), shared


def moderated(own: Floats, shared: float, prompts: int) -> Floats:
    """The variances of cells' differences, each weighed with the one that the cells have in common."""
    return (PRIOR_PROMPTS * shared + (prompts - 1) * own) / (PRIOR_PROMPTS + prompts - 1)
