"""Merges that are linear in the weights: the weighted sum and the added difference. `apply.py` calls them through
MERGE_METHODS, one tensor at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def weighted_sum(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    """(1 - alpha) * A + alpha * B, elementwise, for floating tensors of one shape and dtype.

    Model soups: https://arxiv.org/abs/2203.05482. Both ends are returned as they are: A + 0 * (B - A) would turn a
    negative zero of A into a positive one. In between lerp is used, since it gives A exactly when A and B are equal.
    """
    if alpha == 0:
        return a
    if alpha == 1:
        return b
    return a.lerp(b, alpha)


def add_difference(a: Tensor, b: Tensor, c: Tensor, alpha: float) -> Tensor:
    """A + alpha * (B - C), elementwise, for floating tensors of one shape and dtype: what B learnt from C, given to A.

    Task arithmetic: https://arxiv.org/abs/2212.04089. At alpha 0 A is returned as it is, its negative zeros too.
    """
    if alpha == 0:
        return a
    return a.add(b.sub(c), alpha=alpha)
