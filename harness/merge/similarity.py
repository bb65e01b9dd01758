"""Merges by cosine similarity, column by column, against the range of similarities in the whole model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.merge.inner_products import matrix, pairs

if TYPE_CHECKING:
    from torch import Tensor

TRIMMED = 0.01
"""Share of the model's similarities that is cut off at either end before the range is taken."""


def cosine_a(a: Tensor, b: Tensor, alpha: float, limits: tuple[float, float]) -> Tensor:
    """k * A + (1 - k) * B with one k for each column: k = clip(x - alpha, 0, 1), x = clip((s - low) / (high - low), 0, 1).

    s is the mean of the column's cosine and the whole tensor's, the latter taken after each column is scaled to norm 1;
    `limits` = (low, high) are the 1 % and 99 % quantiles of s over the whole model. A column holds the values of all
    outputs for one input (and place of the kernel); a bias or norm is one column. Where A and B differ most A is replaced
    first: alpha 0 is not A, but replaces a column by 1 - x already; alpha 1 is B, which is then returned as it is.

    Two columns of zeros count as equal (cosine 1), one as at right angles to any other (0). Limits that are equal make x
    a step: 1 from there up. x is clipped, unlike in SuperMerger, for the 1 % above `high` would keep some of A at alpha 1.
    Floating tensors of one shape and dtype. SuperMerger's cosineA: https://github.com/hako-mikan/sd-webui-supermerger
    """
    return _by_similarity(a, b, alpha, limits, normalised=True)


def cosine_b(a: Tensor, b: Tensor, alpha: float, limits: tuple[float, float]) -> Tensor:
    """As `cosine_a`, but the whole tensor's cosine is taken of the weights as they are, so that large columns count for
    more in it. SuperMerger's cosineB: https://github.com/hako-mikan/sd-webui-supermerger
    """
    return _by_similarity(a, b, alpha, limits, normalised=False)


def survey_a(a: Tensor, b: Tensor) -> Tensor:
    """The similarity s of each column for `cosine_a`, as a 1-D float64 tensor."""
    return _similarity(_columns(a), _columns(b), normalised=True)


def survey_b(a: Tensor, b: Tensor) -> Tensor:
    """The similarity s of each column for `cosine_b`, as a 1-D float64 tensor."""
    return _similarity(_columns(a), _columns(b), normalised=False)


def limits_of(similarities: Tensor) -> tuple[float, float]:
    """The 1 % and 99 % quantiles of a 1-D tensor, interpolated linearly as numpy's are; (0, 0) of an empty one.

    By a sort: torch.quantile refuses more than 2**24 values.
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
    """Mean of each column's cosine and of the whole tensor's for (rows, columns) tensors, as (columns,) in float64."""
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
    """sum(A * B) of each column in float64, some rows at a time so that no copy of the whole is made."""
    total = a.new_zeros(a.shape[1]).double()
    for x, y in pairs(a, b):
        total.add_((x.double() * y.double()).sum(0))
    return total


def _cosine(ab: Tensor, aa: Tensor, bb: Tensor) -> Tensor:
    import torch

    # One root of the product, not a product of roots: equal vectors then give exactly 1.
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
