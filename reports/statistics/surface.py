"""A smooth surface over one or two numeric axes (alpha, guidance, adapter weight), with what the prompts leave uncertain of
it. Pure functions from a table of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.statistics.intervals import CLUSTER, LEVEL, clustered

Floats = NDArray[np.float64]

FEWEST_CELLS: Final = 4
LOGARITHMIC: Final = frozenset({"guidance"})
"""Axes whose effect goes with the ratio of two values rather than with their distance."""


@dataclass(frozen=True, kw_only=True)
class Surface:
    """Values on the smooth surface at the C measured points: `points` (C, axes) in the axes' own units, `measured` the plain
    means, `mean` and `covariance` (C, C) of the surface, `lengths` the distance over which it changes along each axis (1 is
    the whole range of the axis)."""

    axes: tuple[str, ...]
    points: Floats
    measured: Floats
    mean: Floats
    covariance: Floats
    lengths: tuple[float, ...]
    prompts: int

    @property
    def best(self) -> int:
        """Row of the highest value of the surface."""
        return int(self.mean.argmax())

    def behind(self, of: int | None = None) -> tuple[Floats, Floats]:
        """How far each point lies below the point `of` (the best one), and the standard deviation of that difference; both
        (C,)."""
        of = self.best if of is None else of
        variance = np.diag(self.covariance)
        spread = variance + variance[of] - 2 * self.covariance[of]
        return self.mean[of] - self.mean, np.sqrt(np.maximum(spread, 0.0))

    def most_above(self, of: int, among: NDArray[np.bool_], level: float = LEVEL, draws: int = 4096, seed: int = 20262) -> float:
        """How much better than the point `of` the best of the points `among` may be: the `level` quantile, over draws from
        the surface (normal, with its mean and covariance), of the largest difference. Never negative."""
        points = np.flatnonzero(among | (np.arange(len(self.mean)) == of))
        values, vectors = np.linalg.eigh(self.covariance[np.ix_(points, points)])
        normal = np.random.default_rng(seed).standard_normal((draws, len(points)))
        drawn = self.mean[points] + normal * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
        above = drawn.max(axis=1) - drawn[:, int(np.flatnonzero(points == of)[0])]
        return float(np.quantile(above, level))


def fit_surface(images: pd.DataFrame, axes: Sequence[str], value: str = "objective") -> Surface:
    """The surface through the cell means of `value`, a Gaussian process whose noise is known from the prompts.

    y (C,) are the means over prompts of the prompt means, each prompt less its own mean over cells, so that what a prompt
    does to all cells alike is no noise. y = m + f + e with f of covariance s^2 M(r), M the Matern kernel of smoothness 5/2
    in axes scaled to [0, 1] (guidance by its logarithm) and divided by lengths, and e of the covariance between cells of
    the P prompts' rows, shrunk by Ledoit and Wolf, over P: neighbouring cells err alike, which independent noise would
    take for signal. s and the lengths (0.2 to 5) maximise the marginal likelihood; their own uncertainty is left out.
    `images` needs the columns prompt, seed, `axes` and `value`; points that lack images of a prompt keep only the prompts
    that all points have. Raises ValueError for fewer than two such prompts or four points, and for a missing column.
    Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), ch. 2 and 5; Ledoit and Wolf, Journal of
    Multivariate Analysis 88 (2004) 365.
    """
    points, scores = _scores(images, axes, value)
    prompts, cells = scores.shape
    if prompts < 2 or cells < FEWEST_CELLS:
        raise ValueError(f"a surface over {', '.join(axes)} needs two prompts and {FEWEST_CELLS} points that share them; there "
                         f"are {prompts} and {cells}: sample more, or read the means")
    rows = scores - scores.mean(axis=1, keepdims=True)
    y, noise = rows.mean(axis=0), _noise(rows)
    places = _scaled(points, axes)
    spread, lengths = _most_likely(places, y, noise)
    prior = spread**2 * _matern(places, lengths)
    whole = prior + noise
    solved = np.linalg.solve(whole, np.column_stack([y, np.ones(cells), prior]))
    level = float(solved[:, 0].sum() / solved[:, 1].sum())
    mean = level + prior @ (solved[:, 0] - level * solved[:, 1])
    covariance = prior - prior @ solved[:, 2:]
    return Surface(axes=tuple(axes), points=points, measured=scores.mean(axis=0), mean=mean + float(scores.mean()),
                   covariance=(covariance + covariance.T) / 2, lengths=tuple(lengths.tolist()), prompts=prompts)


def _scores(images: pd.DataFrame, axes: Sequence[str], value: str) -> tuple[Floats, Floats]:
    """The measured points (C, axes), in rising order, and the prompt means at them (P, C)."""
    columns = ["prompt", "seed", *axes, value]
    if absent := [c for c in columns if c not in images.columns]:
        raise ValueError(f"the table of images has no column {absent[0]!r}; it has {sorted(map(str, images.columns))}")
    rows = clustered(images)[[CLUSTER, *columns]].dropna()
    wide = rows.pivot_table(index=[CLUSTER, "prompt", "seed"], columns=list(axes), values=value)
    scores = wide.dropna().groupby(level=CLUSTER, sort=True).mean()
    points = np.asarray([p if isinstance(p, tuple) else (p,) for p in scores.columns], dtype=np.float64)
    return points.reshape(-1, len(axes)), scores.to_numpy(dtype=np.float64)


def _scaled(points: Floats, axes: Sequence[str]) -> Floats:
    """Every axis from 0 to 1."""
    columns = []
    for axis, column in zip(axes, points.T, strict=True):
        place = np.log(column) if axis in LOGARITHMIC and column.min() > 0 else column
        columns.append((place - place.min()) / max(float(np.ptp(place)), 1e-12))
    return np.column_stack(columns)


def _noise(rows: Floats) -> Floats:
    """Covariance of the cell means (C, C), with a floor so that images without any spread do not make it singular."""
    from sklearn.covariance import ledoit_wolf

    covariance = np.asarray(ledoit_wolf(rows)[0], dtype=np.float64) / max(1, len(rows) - 1)
    floor = 1e-6 * max(float(rows.mean(axis=0).var()), float(np.diag(covariance).mean()), 1e-12)
    result: Floats = covariance + floor * np.eye(len(covariance))
    return result


def _matern(places: Floats, lengths: Floats) -> Floats:
    """Matern kernel of smoothness 5/2 between all places (C, axes)."""
    scaled = places / lengths
    square = ((scaled[:, None, :] - scaled[None, :, :]) ** 2).sum(axis=2)
    r = np.sqrt(5 * square)
    kernel: Floats = (1 + r + 5 * square / 3) * np.exp(-r)
    return kernel


def _most_likely(places: Floats, y: Floats, noise: Floats) -> tuple[float, Floats]:
    """The spread of the surface and its length along each axis that make the means most likely, the level profiled out."""
    from scipy.linalg import cho_factor, cho_solve
    from scipy.optimize import minimize

    scale = max(float(y.std()), float(np.sqrt(np.diag(noise).mean())), 1e-9)
    apart = (places[:, None, :] - places[None, :, :]) ** 2
    identity = np.eye(len(y))

    def cost(parameters: Floats) -> tuple[float, Floats]:
        """Minus the log likelihood and its gradient, by the inverse of the covariance (Rasmussen and Williams, eq. 5.9)."""
        shares = apart * np.exp(-2 * parameters[1:])
        r = np.sqrt(5 * shares.sum(axis=2))
        decay = np.exp(2 * parameters[0]) * scale**2 * np.exp(-r)
        kernel = decay * (1 + r + r**2 / 3)
        factor = cho_factor(kernel + noise, lower=True)
        inverse = cho_solve(factor, identity)
        residual = y - float(inverse.sum(axis=0) @ y / inverse.sum())
        solved = inverse @ residual
        slope = inverse - np.outer(solved, solved)
        lengths = (slope * decay * (1 + r) * 5 / 3).ravel() @ shares.reshape(-1, shares.shape[2]) / 2
        value = 0.5 * float(residual @ solved) + float(np.log(np.diag(factor[0])).sum())
        return value, np.array([float((slope * kernel).sum()), *lengths])

    dims = places.shape[1]
    bounds = [(np.log(1e-3), np.log(30.0)), *[(np.log(0.2), np.log(5.0))] * dims]
    starts = [np.array([0.0, *[np.log(length)] * dims]) for length in (0.5, 2.0)]
    optimum = min((minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds) for start in starts), key=lambda f: f.fun)
    return float(np.exp(optimum.x[0])) * scale, np.asarray(np.exp(optimum.x[1:]), dtype=np.float64)
