"""Selections of values of a tensor, by row or by rank of magnitude: the merges that replace parts of A by B, and the masks
that trim task vectors.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.merge.inner_products import matrix

if TYPE_CHECKING:
    from torch import Tensor


def tensor_sum(a: Tensor, b: Tensor, alpha: float, beta: float) -> Tensor:
    """Rows [floor(beta * n), floor((alpha + beta) * n)) of the first axis, of length n, are from B, the others from A. Past
    the end the range wraps to row 0. alpha is the share of rows from B, beta the start of the range. Values are only copied.
    Takes floating tensors of one shape and dtype; at alpha 0 and 1 A and B are returned.

    A single value is one row. SuperMerger's tensor: https://github.com/hako-mikan/sd-webui-supermerger
    """
    import torch

    if alpha in (0, 1):
        return b if alpha else a
    size = a.shape[0] if a.ndim else 1
    from_b = _wrapped(size, alpha, beta)
    if a.ndim == 0:
        return b if from_b[0] else a
    rows = torch.tensor(from_b, device=a.device)
    return torch.where(rows.view(-1, *(1,) * (a.ndim - 1)), b, a)


def top_k_tensor_sum(a: Tensor, b: Tensor, alpha: float, beta: float) -> Tensor:
    """The values of A whose rank by magnitude in A is in [floor(beta * n), floor((alpha + beta) * n)) of n are replaced by
    B's values at the same positions. Ranks rise from 0 for the smallest; the range wraps to 0 after the largest. alpha is the
    share of values from B, beta the start of the range. Of equal magnitudes the one stored first ranks lower.

    Takes floating tensors of one shape and dtype; at alpha 0 and 1 A and B are returned. Adapted from sd-meh's function of
    this name, https://github.com/s1dlx/meh, which inserts A's own values in B's order and so never reaches B.
    """
    import torch

    if alpha in (0, 1):
        return b if alpha else a
    size = a.numel()
    start, stop = floor_share(beta, size), floor_share(alpha + beta, size)
    magnitude = a.abs()
    if stop <= size:
        return torch.where(lowest(magnitude, stop) & ~lowest(magnitude, start), b, a)
    return torch.where(lowest(magnitude, start) & ~lowest(magnitude, stop - size), a, b)


def lowest(values: Tensor, count: int) -> Tensor:
    """Bool mask of the `count` lowest values of a floating tensor: exactly the first `count` of a stable sort in storage
    order, on every device and with any number of threads."""
    import torch

    if count <= 0 or count >= values.numel():
        return torch.full(values.shape, count > 0, dtype=torch.bool, device=values.device)
    flat = values.reshape(-1)
    # On the CPU kthvalue is six times faster than a sort; on CUDA it is not deterministic, and sorts are fast.
    limit = flat.kthvalue(count).values if flat.device.type == "cpu" else flat.sort().values[count - 1]
    below, equal = flat < limit, flat == limit
    missing = count - int(below.sum())
    if int(equal.sum()) > missing:
        equal &= equal.cumsum(0) <= missing
    return below.logical_or_(equal).view(values.shape)


def highest(values: Tensor, count: int) -> Tensor:
    """Bool mask of the `count` highest values of a floating tensor: the complement of `lowest` for the others."""
    return lowest(values, values.numel() - count).logical_not_()


def row_ranks(values: Tensor) -> Tensor:
    """Rank of each value within its row of the matrix (out, everything else), 0 for the lowest, as an int64 matrix. Of equal
    values the one stored first ranks lower."""
    import torch

    rows = matrix(values)
    order = rows.argsort(dim=1, stable=True)
    places = torch.arange(rows.shape[1], device=rows.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def floor_share(share: float, size: int) -> int:
    """floor(share * size). A product that is an integer up to float64 rounding (0.29 * 100) counts as that integer."""
    return math.floor(share * size + 1e-9)


def round_share(share: float, size: int) -> int:
    """share * size, rounded half up, but at least 1 if the share is above 0."""
    return min(size, max(math.floor(share * size + 0.5), 1)) if share > 0 else 0


def _wrapped(size: int, alpha: float, beta: float) -> list[bool]:
    rows_of_b = {row % size for row in range(floor_share(beta, size), floor_share(alpha + beta, size))}
    return [row in rows_of_b for row in range(size)]
