"""Merges to a centre of several models: model stock, which lies between them and their base, and the geometric median."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from harness.merge.inner_products import inner, squared_distance
from harness.merge.linear import shares, subtract, weighted_average

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


def model_stock(models: Sequence[Tensor], base: Tensor, alpha: float) -> Tensor:
    """W0 + alpha * t * (mean(W_i) - W0) with t = N * cos / (1 + (N - 1) * cos), cos being the mean cosine of the N models'
    differences from the base W0 over the whole tensor, each pair counted once. At alpha 1 it is the paper's
    t * mean(W_i) + (1 - t) * W0. alpha scales the distance from the base: orthogonal differences give the base, equal
    differences the mean.

    A mean cosine below 0 counts as 0, because t has a pole there. A zero difference has cosine 0 with any other. Takes
    floating tensors of one shape and dtype, at least two besides the base. At alpha 0 the base is returned.
    Jang et al. 2024: https://arxiv.org/abs/2403.19522
    """
    if alpha == 0:
        return base
    lost = [base.sub(model) for model in models]
    squares = [inner(one, one) for one in lost]
    cosines = []
    for i, j in combinations(range(len(lost)), 2):
        product = (squares[i] * squares[j]) ** 0.5
        cosines.append(inner(lost[i], lost[j]) / product if product else 0.0)
    cosine = min(1.0, max(0.0, sum(cosines) / len(cosines)))
    count = len(lost)
    total = lost[0]
    for one in lost[1:]:
        total.add_(one)
    return subtract(base, total, alpha * cosine / (1 + (count - 1) * cosine))


def geometric_median(models: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The tensor x with the least sum(w_i * |x - W_i|), each tensor taken as one vector of all values. Unlike the average, it
    is robust against one outlying model. It has no alpha.

    x is an average of the models, so Weiszfeld's iteration runs on its n shares, with the squared distances of the models in
    float64, until no share changes by more than 1e-12. Whether a model is itself the median is tested exactly beforehand
    (Vardi and Zhang); the first such model is then returned unchanged.
    Takes floating tensors of one shape and dtype. Raises ValueError for wrong weights.
    Vardi and Zhang 2000, https://doi.org/10.1073/pnas.97.4.1423; sd-mecha: https://github.com/ljleb/sd-mecha
    """
    import numpy as np

    weight = np.array(shares(weights, len(models)))
    count = len(models)
    squares = np.zeros((count, count))
    for i, j in combinations(range(count), 2):
        squares[i, j] = squares[j, i] = squared_distance(models[i], models[j])
    for k in range(count):
        if weight[k] > 0 and _is_median(k, squares, weight):
            return models[k]
    return weighted_average(models, _weiszfeld(squares, weight).tolist())


def _is_median(k: int, squares: np.ndarray, weight: np.ndarray) -> bool:
    """Whether the pull of the other models, sum(w_i * (W_i - W_k) / |W_i - W_k|), is no more than the weight at W_k."""
    import numpy as np

    here = squares[k] == 0
    pull = np.where(here, 0, weight / np.sqrt(np.where(here, 1, squares[k])))
    products = (squares[k][:, None] + squares[k][None, :] - squares) / 2
    return bool(np.sqrt(max(0.0, pull @ products @ pull)) <= weight[here].sum() * (1 + 1e-12))


def _weiszfeld(squares: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Shares of the models in their geometric median, when no model is the median itself."""
    import numpy as np

    share = weight.copy()
    for _ in range(5000):
        distance = squares @ share - share @ squares @ share / 2
        pull = weight / np.sqrt(np.maximum(distance, np.finfo(float).tiny))
        before, share = share, pull / pull.sum()
        if np.abs(share - before).max() < 1e-12:
            break
    return share
