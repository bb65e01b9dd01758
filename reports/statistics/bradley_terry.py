"""What duels between candidates come to: Bradley-Terry strengths with intervals over prompts. Pure functions on arrays of
wins."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

ROUNDS: Final = 200
PRIOR: Final = 0.5
Wins = NDArray[np.float64]


def bradley_terry(wins: Wins) -> Wins:
    """Log strengths whose mean is 0: i beats j with probability 1 / (1 + exp(s_j - s_i)).

    `wins` is [..., k, k], float64: how often row beat column, a tie being half a win of each; the result is [..., k], in
    natural logarithms. Every pair that met is given half a win each way beside, so that a candidate who won all has a
    finite strength, pulled a little to the mean. By the MM iteration p_i = W_i / sum_j n_ij / (p_i + p_j). ValueError where
    the pairs that met do not connect all candidates: their strengths cannot be compared. Bradley and Terry, Biometrika 39
    (1952) 324; Hunter, Annals of Statistics 32 (2004) 384.
    """
    met = wins + np.swapaxes(wins, -1, -2)
    size = wins.shape[-1]
    ever = np.asarray((met.reshape(-1, size, size) > 0).any(axis=0), dtype=np.bool_)
    if not _connected(ever):
        raise ValueError("some candidates never met, not even by way of others")
    prior = PRIOR * ever
    won, met = (wins + prior).sum(axis=-1), met + 2 * prior
    strength = np.ones_like(won)
    for _ in range(ROUNDS):
        met_by_strength = (met / (strength[..., :, None] + strength[..., None, :])).sum(axis=-1)
        strength = np.maximum(won, 1e-9) / np.maximum(met_by_strength, 1e-12)
        strength = strength / np.exp(np.log(strength).mean(axis=-1, keepdims=True))
    return np.asarray(np.log(strength), dtype=np.float64)


def strengths(wins: Wins, level: float = 0.95, draws: int = 499, seed: int = 7) -> tuple[Wins, Wins | None]:
    """Log strengths [k] of `wins` [prompts, k, k] over all prompts, and [2, k] their interval by the bootstrap over prompts
    (percentiles, fixed `seed`); no interval from fewer than three prompts. ValueError as in `bradley_terry`."""
    fitted, prompts = bradley_terry(wins.sum(axis=0)), len(wins)
    if prompts < 3:
        return fitted, None
    drawn = np.random.default_rng(seed).multinomial(prompts, [1 / prompts] * prompts, size=draws)
    many = bradley_terry(np.einsum("dp,pij->dij", drawn.astype(np.float64), wins))
    return fitted, np.quantile(many, ((1 - level) / 2, (1 + level) / 2), axis=0)


def _connected(met: NDArray[np.bool_]) -> bool:
    reached = np.eye(len(met), dtype=bool)[0]
    for _ in range(len(met)):
        reached = reached | met[reached].any(axis=0)
    return bool(reached.all())
