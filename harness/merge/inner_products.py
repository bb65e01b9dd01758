"""Inner products and distances in float64, and the view of a weight as a matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PIECE = 2 ** 20
"""Values widened to float64 at a time, so that no large weight is copied as a whole."""


def inner(a: Tensor, b: Tensor) -> float:
    """sum(A * B) over all values, in float64, for tensors of one shape and any floating dtype.

    float32 would not do: squares of bfloat16 values can overflow it, and sums over large tensors have errors of 1e-6.
    """
    return float(_inner(a.reshape(-1), b.reshape(-1)))


def squared_distance(a: Tensor, b: Tensor) -> float:
    """sum((A - B)**2) over all values, in float64, for tensors of one shape and any floating dtype."""
    total = 0.0
    for x, y in pairs(a.reshape(-1), b.reshape(-1)):
        difference = x.double() - y.double()
        total += float(difference.dot(difference))
    return total


def row_inner(a: Tensor, b: Tensor) -> Tensor:
    """sum(A * B) of each row of two (rows, columns) tensors, as a (rows, 1) float64 tensor."""
    import torch

    if a.shape[0] == 1:
        return _inner(a[0], b[0]).reshape(1, 1)
    return torch.cat([(x.double() * y.double()).sum(1, keepdim=True) for x, y in pairs(a, b)])


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of two vectors as a float64 number on their device, for which the host does not wait."""
    import torch

    total = torch.zeros((), dtype=torch.float64, device=a.device)
    for x, y in pairs(a, b):
        total += x.double().dot(y.double())
    return total


def pairs(a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the same rows of two tensors of one shape (values, of 1-D tensors), about PIECE values at a time."""
    step = max(1, PIECE // max(1, a[:1].numel()))
    for start in range(0, a.shape[0], step):
        yield a[start:start + step], b[start:start + step]


def matrix(tensor: Tensor) -> Tensor:
    """The tensor as (outputs, everything else): a convolution's (out, in, h, w) as (out, in * h * w), a bias or norm of n
    values as one row (1, n), and a single value as (1, 1)."""
    return tensor.reshape(1, -1) if tensor.ndim < 2 else tensor.reshape(tensor.shape[0], -1)
