"""Merges by cosine similarity, column by column, relative to the range of similarities in the whole model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.merge.inner_products import matrix, pairs

if TYPE_CHECKING:
    from torch import Tensor

TRIMMED = 0.01
"""Share of the model's similarities that is cut off at each end of the range."""


def cosine_a(a: Tensor, b: Tensor, alpha: float, limits: tuple[float, float]) -> Tensor:
    """k * A + (1 - k) * B with one k for each column: k = clip(x - alpha, 0, 1), x = clip((s - low) / (high - low), 0, 1).

    s is the mean of the column's cosine and the whole tensor's, the latter after each column is scaled to norm 1. `limits` =
    (low, high) are the 1 % and 99 % quantiles of s over the whole model. A column holds the values of all outputs for one
    input (and kernel position); a bias or norm is one column. Where A and B differ most, A is replaced first. alpha 0 is not
    A: it already replaces a share 1 - x of a column. At alpha 1 B is returned.

    Two columns of zeros count as equal (cosine 1); one column of zeros has cosine 0 with any other. Equal limits make x a
    step: 1 from there up. Unlike in SuperMerger, x is clipped, because the 1 % above `high` would keep some of A at alpha 1.
    Takes floating tensors of one shape and dtype. SuperMerger's cosineA: https://github.com/hako-mikan/sd-webui-supermerger
    """
    return _by_similarity(a, b, alpha, limits, normalised=True)


def cosine_b(a: Tensor, b: Tensor, alpha: float, limits: tuple[float, float]) -> Tensor:
    """Like `cosine_a`, but the whole tensor's cosine is taken without scaling the columns, so large columns weigh more.
    SuperMerger's cosineB: https://github.com/hako-mikan/sd-webui-supermerger
    """
    return _by_similarity(a, b, alpha, limits, normalised=False)


def survey_a(a: Tensor, b: Tensor) -> Tensor:
    """The similarity s of each column for `cosine_a`, as a 1-D float64 tensor."""
    return _similarity(_columns(a), _columns(b), normalised=True)


def survey_b(a: Tensor, b: Tensor) -> Tensor:
    """The similarity s of each column for `cosine_b`, as a 1-D float64 tensor."""
    return _similarity(_columns(a), _columns(b), normalised=False)


def limits_of(similarities: Tensor) -> tuple[float, float]:
    """The 1 % and 99 % quantiles of a 1-D tensor, with numpy's linear interpolation; (0, 0) for an empty tensor.

    The values are sorted, because torch.quantile refuses more than 2**24 of them.
    """
    if similarities.numel() == 0:
        return 0.0, 0.0
    ordered = similarities.double().sort().values
    low, high = (_at(ordered, share * (ordered.numel() - 1)) for share in (TRIMMED, 1 - TRIMMED))
    return low, high


def _at(ordered: Tensor, place: float) -> float:
    first = min(int(place), ordered.numel() - 1)
    lower, upper = float(ordered[first]), float(ordered[min(first + 1, ordered.numel() - 1)])
    return lower + (place - first) * (upper - lower)


def _columns(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, 1) if tensor.ndim < 2 else matrix(tensor)


def _similarity(a: Tensor, b: Tensor, normalised: bool) -> Tensor:
    """The mean of each column's cosine and the whole tensor's, for (rows, columns) tensors: (columns,) in float64."""
    import torch

    if a.numel() == 0:
        return a.new_zeros(0, dtype=torch.float64)
    ab, aa, bb = (_column_inner(x, y) for x, y in ((a, b), (a, a), (b, b)))
    columns = _cosine(ab, aa, bb)
    if normalised:
        scale_a, scale_b = (torch.where(square > 0, square.rsqrt(), 0) for square in (aa, bb))
        ab, aa, bb = ab * scale_a * scale_b, (aa > 0).double(), (bb > 0).double()
    return (columns + _cosine(ab.sum(), aa.sum(), bb.sum())) / 2


def _column_inner(a: Tensor, b: Tensor) -> Tensor:
    """sum(A * B) of each column in float64, some rows at a time so that no whole tensor is copied."""
    total = a.new_zeros(a.shape[1]).double()
    for x, y in pairs(a, b):
        total.add_((x.double() * y.double()).sum(0))
    return total


def _cosine(ab: Tensor, aa: Tensor, bb: Tensor) -> Tensor:
    import torch

    # The root of the product, not the product of roots: equal vectors then give exactly 1.
    product = (aa * bb).sqrt()
    zeros = torch.where(torch.maximum(aa, bb) == 0, 1.0, 0.0).to(ab)
    return torch.where(product == 0, zeros, ab / product.masked_fill(product == 0, 1)).clamp(-1, 1)


def _by_similarity(a: Tensor, b: Tensor, alpha: float, limits: tuple[float, float], *, normalised: bool) -> Tensor:
    import torch

    if alpha == 1:
        return b
    first, second = _columns(a), _columns(b)
    similarity = _similarity(first, second, normalised)
    low, high = limits
    x = (similarity - low).div_(high - low).clamp_(0, 1) if high > low else (similarity >= high).double()
    share_of_b = 1 - (x - alpha).clamp_(0, 1)
    merged = first.lerp(second, share_of_b.to(a.dtype).expand_as(first))
    return torch.where(first == second, first, merged).reshape(a.shape)
