"""Add difference with smoothing: a median and a Gaussian filter remove single outliers from what B learnt."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.merge.inner_products import matrix
from harness.merge.linear import subtract

if TYPE_CHECKING:
    from torch import Tensor

RADIUS = 4
"""The Gaussian of sigma 1 is cut at 4 sigma, as in scipy.ndimage."""
PIECE = 2 ** 19
"""Values filtered at a time."""


def smooth_add(a: Tensor, b: Tensor, c: Tensor, alpha: float) -> Tensor:
    """A + alpha * gaussian(median(B - C)). alpha scales what is added. Takes floating tensors of one shape and dtype. At
    alpha 0 A is returned; if B equals C everywhere, A's values keep their bits.

    The difference is filtered as a matrix (out, everything else): a 3 x 3 median, then a Gaussian of sigma 1, cut at 4 sigma
    and normalised, along both axes. Borders are mirrored with the edge value repeated (scipy's "reflect"). Biases and norms
    are one row: median of 3 and Gaussian along it. For these and for linear layers this is SuperMerger's smoothAdd:
    https://github.com/hako-mikan/sd-webui-supermerger. SuperMerger filters convolutions as 4-D arrays, with a median of 81
    values. Here they are matrices too, which is this project's own definition and a hundred times faster.
    """
    if alpha == 0:
        return a
    return subtract(a, smooth(matrix(c.sub(b))).reshape(a.shape), alpha)


def smooth(values: Tensor) -> Tensor:
    """gaussian(median(values)) of a (rows, columns) floating tensor, as in `smooth_add`.

    Works on some rows at a time, extended by the reach of the filters, so that the forty passes stay in the cache. Beyond
    the edge the tensor is mirrored; the filters map a mirrored input to the mirrored result.
    """
    import torch

    rows = max(4 * RADIUS, PIECE // max(1, values.shape[1]))
    if values.shape[0] <= rows:
        return _filtered(values)
    reach = RADIUS + 1
    padded = mirrored(values, 0, reach)
    return torch.cat([_filtered(padded[start:start + rows + 2 * reach])[reach:-reach]
                      for start in range(0, values.shape[0], rows)])


def _filtered(values: Tensor) -> Tensor:
    return gaussian(gaussian(median_3x3(values), 0), 1)


def median_3x3(values: Tensor) -> Tensor:
    """Median of the 3 x 3 values around each value of a (rows, columns) tensor, edge values repeated outside.

    Columns of three are sorted first, and each serves three windows: the median of nine is the median of (the largest
    of the three lowest, the median of the three middle, the smallest of the three highest).
    """
    import torch

    above, here, below = (mirrored(values, 0, 1).narrow(0, i, values.shape[0]) for i in range(3))
    low, high = torch.minimum(above, here), torch.maximum(above, here)
    middle = torch.minimum(high, below)
    high = torch.maximum(high, below)
    low, middle = torch.minimum(low, middle), torch.maximum(low, middle)
    lows, middles, highs = ([mirrored(t, 1, 1).narrow(1, i, values.shape[1]) for i in range(3)] for t in (low, middle, high))
    low = torch.maximum(torch.maximum(lows[0], lows[1]), lows[2])
    high = torch.minimum(torch.minimum(highs[0], highs[1]), highs[2])
    return _median_of_three(low, _median_of_three(*middles), high)


def gaussian(values: Tensor, axis: int) -> Tensor:
    """Gaussian filter of sigma 1 along one axis of a (rows, columns) floating tensor; a single value stays as it is."""
    size = values.shape[axis]
    if size == 1:
        return values
    weights = [math.exp(-0.5 * i * i) for i in range(RADIUS + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    padded = mirrored(values, axis, RADIUS)
    out = padded.narrow(axis, RADIUS, size) * (weights[0] / total)
    for i in range(1, RADIUS + 1):
        for start in (RADIUS - i, RADIUS + i):
            out.add_(padded.narrow(axis, start, size), alpha=weights[i] / total)
    return out


def mirrored(values: Tensor, axis: int, width: int) -> Tensor:
    """The tensor extended by `width` positions at both ends of an axis, mirrored at the edge (c b a | a b c | c b a) as often
    as needed: scipy's "reflect"."""
    import torch

    size = values.shape[axis]
    outside = torch.tensor([*range(-width, 0), *range(size, size + width)], device=values.device) % (2 * size)
    edges = values.index_select(axis, torch.where(outside < size, outside, 2 * size - 1 - outside))
    return torch.cat([edges.narrow(axis, 0, width), values, edges.narrow(axis, width, width)], dim=axis)


def _median_of_three(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    import torch

    return torch.maximum(torch.minimum(x, y), torch.minimum(torch.maximum(x, y), z))
