"""Merges that are linear in the weights: sums, averages and added differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LEAST_REVERSIBLE = 2.0 ** -10
"""From here to 1/2 the models are exchanged: 1 - (1 - alpha) has a relative error of at most 2**-15 in float32."""


def weighted_sum(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    """(1 - alpha) * A + alpha * B, elementwise, for floating tensors of one shape and dtype.

    Model soups: https://arxiv.org/abs/2203.05482. At both ends the model itself is returned: A + 0 * (B - A) would turn a
    negative zero of A into a positive one. In between lerp is used, since it gives exactly A when A and B are equal. Above
    1/2 its formula, B - (1 - alpha) * (B - A), also keeps negative zeros. Below 1/2 it does not, so the models are exchanged.
    """
    import torch

    if alpha == 0:
        return a
    if alpha == 1:
        return b
    if abs(alpha) >= 0.5:
        return a.lerp(b, alpha)
    if alpha >= LEAST_REVERSIBLE:
        return b.lerp(a, 1 - alpha)
    return torch.where(a == b, a, a.lerp(b, alpha))


def shares(weights: Sequence[float], count: int) -> list[float]:
    """The weights divided by their sum. Raises ValueError unless there are `count` weights, none negative and not all 0."""
    if len(weights) != count or not all(math.isfinite(w) and w >= 0 for w in weights) or sum(weights) <= 0:
        raise ValueError(f"weights are {list(weights)} for {count} models; expected {count} numbers of at least 0, "
                         "and at least one above 0.")
    total = math.fsum(weights)
    return [w / total for w in weights]


def weighted_average(models: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum(w_i * W_i) / sum(w_i), elementwise, for any number of floating tensors of one shape and dtype.

    Model soups: https://arxiv.org/abs/2203.05482. It has no alpha. Models are added one after the other, each by a weighted
    sum with the average so far. Equal models therefore give exactly that model, and a single model with a weight above 0 is
    returned unchanged. Raises ValueError for a negative weight, weights that are all 0, and a wrong number of weights.
    """
    average, so_far = models[0], 0.0
    for model, share in zip(models, shares(weights, len(models)), strict=True):
        if share:
            so_far += share
            average = weighted_sum(average, model, share / so_far)
    return average


def sum_twice(a: Tensor, b: Tensor, c: Tensor, alpha: float, beta: float) -> Tensor:
    """(1 - beta) * ((1 - alpha) * A + alpha * B) + beta * C, elementwise. alpha is B's share in the mix with A, beta is C's
    share of the result. Takes floating tensors of one shape and dtype.

    SuperMerger: https://github.com/hako-mikan/sd-webui-supermerger
    """
    return weighted_sum(weighted_sum(a, b, alpha), c, beta)


def triple_sum(a: Tensor, b: Tensor, c: Tensor, alpha: float, beta: float) -> Tensor:
    """(1 - alpha - beta) * A + alpha * B + beta * C, elementwise. alpha is B's share of the result, beta is C's. If they add
    up to more than 1, A is subtracted. Takes floating tensors of one shape and dtype.

    SuperMerger: https://github.com/hako-mikan/sd-webui-supermerger. Evaluated as the weighted sum of A and an average of B and C.
    """
    both = alpha + beta
    if both == 0:
        return a
    average = weighted_sum(b, c, beta / both)
    return weighted_sum(a, average, both) if both <= 1 else subtract(a, a.sub(average), both)


def weighted_subtraction(a: Tensor, b: Tensor, alpha: float, beta: float) -> Tensor:
    """(A - alpha * beta * B) / (1 - alpha * beta), elementwise: the model that gives A when mixed with B, with alpha * beta
    as B's share. Takes floating tensors of one shape and dtype. Raises ValueError if alpha * beta is 1.

    sd-meh: https://github.com/s1dlx/meh. Evaluated as A + k * (A - B) with k = alpha * beta / (1 - alpha * beta).
    """
    share = alpha * beta
    if share == 1:
        raise ValueError("weighted_subtraction divides by 1 - alpha * beta, which is 0; lower alpha or beta.")
    return subtract(a, b.sub(a), share / (1 - share)) if share else a


def add_difference(a: Tensor, b: Tensor, c: Tensor, alpha: float) -> Tensor:
    """A + alpha * (B - C), elementwise, for floating tensors of one shape and dtype: adds to A what B learnt since C.

    Task arithmetic: https://arxiv.org/abs/2212.04089. At alpha 0 A itself is returned, with its negative zeros. Where B
    equals C, A's values keep their bits.
    """
    if alpha == 0:
        return a
    return a.sub(b.sub(c), alpha=-alpha) if alpha < 0 else a.sub(c.sub(b), alpha=alpha)


def subtract(a: Tensor, opposite: Tensor, alpha: float) -> Tensor:
    """A - alpha * opposite, elementwise. Where `opposite` is +0, A's values keep their bits.

    Methods add their difference through this, with its sign reversed: -0 - (+0) is -0, whereas -0 + (+0) is +0, and 16-bit
    files do contain negative zeros.
    """
    import torch

    if alpha == 0:
        return a
    out = a.sub(opposite, alpha=alpha)
    return out if alpha > 0 else torch.where(opposite == 0, a, out)


def sign_of_sum(total: Tensor, size: Tensor, terms: int) -> Tensor:
    """sgn(total) of a sum of `terms` terms, 0 where it is 0 up to rounding. `size` is the sum of their magnitudes.

    0.4 * 3 - 0.6 * 2 is a tie, whatever rounding error float32 or float64 leaves. 16-bit weights lie on a grid and do tie;
    without the tolerance each precision would choose a different sign. Changes `size` in place.
    """
    import torch

    return total.sign().masked_fill_(total.abs() <= size.mul_(2 * terms * torch.finfo(total.dtype).eps), 0)
