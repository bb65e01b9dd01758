"""Merges along the sphere: a weight is a direction with a length, and the path between two directions is an arc."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.merge.inner_products import inner, matrix, row_inner
from harness.merge.linear import shares, weighted_average

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

OPPOSITE = -1 + 1e-6
"""Two directions with a cosine below this count as opposite: all arcs between them have the same length, so none is used."""


def slerp(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    """(sin((1 - alpha) * W) * A/|A| + sin(alpha * W) * B/|B|) / sin(W) * ((1 - alpha) * |A| + alpha * |B|), W being the
    angle between A and B, each taken as one vector of all values. alpha is B's share of the arc.

    This is sd-mecha's convention: directions follow the arc, norms are interpolated linearly. As W goes to 0 it approaches
    the weighted sum continuously, without a threshold. Opposite directions (cosine below -1 + 1e-6, such as single values
    with different signs) and a tensor of zeros have no arc and are merged by the weighted sum.
    Takes floating tensors of one shape and dtype; at alpha 0 and 1 A and B are returned.
    Shoemake 1985, https://doi.org/10.1145/325165.325242; sd-mecha: https://github.com/ljleb/sd-mecha
    """
    if alpha in (0, 1):
        return b if alpha else a
    return _along_arcs(a.reshape(1, -1), b.reshape(1, -1), alpha, renormalise=True).reshape(a.shape)


def nuslerp(a: Tensor, b: Tensor, alpha: float, by_row: int) -> Tensor:
    """(sin((1 - alpha) * W) * A + sin(alpha * W) * B) / sin(W), W being the angle between A and B: the vectors are not
    normalised first, so their norms are not interpolated linearly. With `by_row` 1 each row of the matrix (out, everything
    else) is a vector with its own W (mergekit's nuslerp_row_wise); with 0 the whole tensor is one vector.

    alpha is B's share of the arc: mergekit's w_b / (w_a + w_b). Vectors of equal or opposite directions, and vectors of
    zeros, are merged by the weighted sum. Takes floating tensors of one shape and dtype; at alpha 0 and 1 A and B are
    returned.
    mergekit: https://github.com/arcee-ai/mergekit
    """
    if alpha in (0, 1):
        return b if alpha else a
    rows_a, rows_b = (matrix(t) if by_row else t.reshape(1, -1) for t in (a, b))
    return _along_arcs(rows_a, rows_b, alpha, renormalise=False).reshape(a.shape)


def _along_arcs(a: Tensor, b: Tensor, alpha: float, *, renormalise: bool) -> Tensor:
    """The merge of each row: (A + q * (B - A)) * s with s = fa + fb and q = fb / s, where fa and fb are the factors of A and
    B. In this form equal vectors have exactly s = 1 and q = alpha, and stay the same."""
    import torch

    square_a, square_b = row_inner(a, a), row_inner(b, b)
    product = (square_a * square_b).sqrt()
    none = product == 0
    cosine = (row_inner(a, b) / product.masked_fill(none, 1)).clamp_(-1, 1)
    none |= cosine < OPPOSITE
    angle = cosine.masked_fill(none, 1).acos()
    sine = angle.sin()
    straight = sine == 0
    sine.masked_fill_(straight, 1)
    factor_a = torch.where(straight, 1 - alpha, torch.sin((1 - alpha) * angle) / sine)
    factor_b = torch.where(straight, alpha, torch.sin(alpha * angle) / sine)
    if renormalise:
        norm_a, norm_b = square_a.sqrt(), square_b.sqrt()
        norm = norm_a + alpha * (norm_b - norm_a)
        factor_a, factor_b = factor_a * (norm / norm_a), factor_b * (norm / norm_b)
    scale = (factor_a + factor_b).masked_fill_(none, 1)
    share = (factor_b / scale).masked_fill_(none, alpha)
    return a.sub(a.sub(b).mul_(share.to(a.dtype))).mul_(scale.to(a.dtype))


def karcher(models: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The Riemannian mean of the directions W_i/|W_i| (the point of the sphere with the least sum of w_i * angle**2), times
    the mean of the norms, sum(w_i * |W_i|) / sum(w_i). Each tensor is one vector of all values. It has no alpha. For two
    models it is their slerp at w_b / (w_a + w_b).

    The mean lies in the span of the models, so the iteration (tangent step to the mean of the logarithms, to 1e-12) runs on
    their coefficients, with the n x n inner products in float64. A tensor of zeros has no direction and counts only for the
    norm. If the directions cancel out, or one is opposite to the mean, the mean is not unique and the weighted average is
    returned. Takes floating tensors of one shape and dtype. Raises ValueError for wrong weights.
    Karcher 1977, https://doi.org/10.1002/cpa.3160300502; mergekit: https://github.com/arcee-ai/mergekit
    """
    import numpy as np
    import torch

    share = np.array(shares(weights, len(models)))
    counted = [model for model, weight in zip(models, share, strict=True) if weight]
    if all(torch.equal(model, counted[0]) for model in counted):
        return counted[0]
    norms = np.sqrt([inner(model, model) for model in models])
    used = [i for i in range(len(models)) if norms[i] > 0 and share[i] > 0]
    gram = np.array([[inner(models[i], models[j]) / (norms[i] * norms[j]) for j in used] for i in used])
    mean = _mean_direction(gram, share[used] / share[used].sum()) if used else None
    if mean is None:
        return weighted_average(models, weights)
    parts = mean * float(share @ norms) / norms[used]
    out = models[used[0]] * float(parts[0])
    for i, part in zip(used[1:], parts[1:], strict=True):
        out.add_(models[i], alpha=float(part))
    return out


def _mean_direction(gram: np.ndarray, share: np.ndarray) -> np.ndarray | None:
    """Coefficients of the Karcher mean of unit vectors with these inner products; None if the mean is not unique."""
    import numpy as np

    mean = share.copy()
    for _ in range(1000):
        length = math.sqrt(max(0.0, mean @ gram @ mean))
        if length < 1e-6:
            return None
        mean /= length
        cosine = np.clip(gram @ mean, -1, 1)
        if cosine.min() < OPPOSITE:
            return None
        angle = np.arccos(cosine)
        stretch = np.where(angle > 0, angle / np.where(angle > 0, np.sin(angle), 1), 1.0)
        step = share * stretch - (share * stretch * cosine).sum() * mean
        size = math.sqrt(max(0.0, step @ gram @ step))
        if size < 1e-12:
            break
        mean = math.cos(size) * mean + math.sin(size) / size * step
    return mean
