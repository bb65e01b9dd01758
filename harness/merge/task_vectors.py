"""Merges of task vectors, the differences of any number of models from one base: task arithmetic, and methods that reduce
the interference between the differences first.

All of them return W0 + alpha * M, W0 being the base. M combines the differences d_i = W_i - W0, which some methods sparsify
first. The `linear` kinds take M = sum(w_i * d_i). The others, as in TIES, elect a sign at each position,
s = sgn(sum(w_i * d_i)), and take the mean of the differences that agree with it, sum(w_i * d_i) / sum(|w_i|) over these.
alpha scales the merged difference: at 0 the base is returned, bit for bit. `weights` has one weight per model. It may be 0
(the model has no effect) or negative (its difference is subtracted)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from harness.merge.inner_products import matrix
from harness.merge.linear import sign_of_sum, subtract
from harness.merge.selection import floor_share, highest, lowest, round_share, row_ranks

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Differences are stored negated, as W0 - W_i: `subtract` then keeps W0 bit for bit where nothing is added.


def task_arithmetic(models: Sequence[Tensor], base: Tensor, alpha: float, weights: Sequence[float]) -> Tensor:
    """W0 + alpha * sum(w_i * (W_i - W0)), elementwise, for floating tensors of one shape and dtype.

    Ilharco et al. 2023: https://arxiv.org/abs/2212.04089. Raises ValueError unless there is one finite weight per model.
    """
    if alpha == 0:
        return base
    return _linear(base, (base.sub(model) for model in models), alpha, _checked(weights, len(models)))


def ties(models: Sequence[Tensor], base: Tensor, alpha: float, weights: Sequence[float], density: float) -> Tensor:
    """W0 + alpha * (mean of the differences that agree with the elected sign), after each difference is trimmed to its
    largest magnitudes: the share `density` of the tensor's values, at least one. Of equal magnitudes the last are kept.

    The sign is the paper's, sgn(sum(w_i * d_i)) after trimming. Where the sum is 0, up to rounding, nothing is added. Takes
    floating tensors of one shape and dtype. Raises ValueError for wrong weights.
    Yadav et al. 2023: https://arxiv.org/abs/2306.01708
    """
    if alpha == 0:
        return base
    return _elected(base, [_largest(base.sub(model), density) for model in models], alpha, weights)


def dare_linear(models: Sequence[Tensor], base: Tensor, alpha: float, weights: Sequence[float], density: float,
                generator: torch.Generator | None) -> Tensor:
    """W0 + alpha * sum(w_i * m_i * d_i / density), where m_i is 1 with probability `density` and else 0, drawn for each value
    of each model. Its expectation is the plain sum. At density 0 nothing is kept. Takes floating tensors of one shape and
    dtype.

    Yu et al. 2023, where p = 1 - density is dropped: https://arxiv.org/abs/2311.03099. Raises ValueError for wrong
    weights and without a generator.
    """
    if alpha == 0:
        return base
    thinned = (_dropped_at_random(base.sub(model), density, generator) for model in models)
    return _linear(base, thinned, alpha, _checked(weights, len(models)))


def dare_ties(models: Sequence[Tensor], base: Tensor, alpha: float, weights: Sequence[float], density: float,
              generator: torch.Generator | None) -> Tensor:
    """Like `dare_linear`, but the kept values are merged as in TIES: the mean of those that agree with the elected sign.

    Yu et al. 2023: https://arxiv.org/abs/2311.03099. (mergekit takes the sum of those that agree, not the mean.)
    """
    if alpha == 0:
        return base
    return _elected(base, [_dropped_at_random(base.sub(model), density, generator) for model in models], alpha, weights)


def della(  # noqa: PLR0913  # its own numbers, each by name
        models: Sequence[Tensor], base: Tensor, alpha: float, weights: Sequence[float], *, density: float, epsilon: float,
        generator: torch.Generator | None) -> Tensor:
    """W0 + alpha * (mean of the differences that agree with the elected sign), after each value is kept with probability
    p = density + epsilon * (r / (n - 1) - 1/2) and divided by p. r is its rank by magnitude in its row of n values of the
    matrix (out, everything else), 0 for the smallest; a bias is one row. Of equal magnitudes the first ranks lower. A row of
    one value has p = density.

    p ranges from density - epsilon / 2 to density + epsilon / 2 as in the paper (mergekit: plus and minus epsilon) and is
    clipped to 0 and 1. Where it is 0 nothing is kept. Takes floating tensors of one shape and dtype.
    Deep et al. 2024: https://arxiv.org/abs/2406.11617. Raises ValueError for wrong weights and without a generator.
    """
    if alpha == 0:
        return base
    thinned = [_dropped_by_rank(base.sub(model), density, epsilon, generator) for model in models]
    return _elected(base, thinned, alpha, weights)


def della_linear(  # noqa: PLR0913  # its own numbers, each by name
        models: Sequence[Tensor], base: Tensor, alpha: float, weights: Sequence[float], *, density: float, epsilon: float,
        generator: torch.Generator | None) -> Tensor:
    """Like `della`, but M is the weighted sum of the kept values, without an elected sign. Its expectation is the plain sum.

    Deep et al. 2024: https://arxiv.org/abs/2406.11617; mergekit: https://github.com/arcee-ai/mergekit
    """
    if alpha == 0:
        return base
    thinned = (_dropped_by_rank(base.sub(model), density, epsilon, generator) for model in models)
    return _linear(base, thinned, alpha, _checked(weights, len(models)))


def breadcrumbs(models: Sequence[Tensor], base: Tensor, alpha: float, weights: Sequence[float], density: float,
                gamma: float) -> Tensor:
    """W0 + alpha * sum(w_i * m_i * d_i). m_i is 0 for the floor(gamma * n) largest magnitudes of the tensor's n values
    (outliers) and for the smallest ones, so that the share `density` of all n values is kept; else 1. Nothing is rescaled.

    At least one value is kept if density is above 0 and gamma below 1. With gamma + density above 1 all but the largest are
    kept. Of equal magnitudes the one stored first ranks lower. Takes floating tensors of one shape and dtype.
    Davari and Belilovsky 2023: https://arxiv.org/abs/2312.06795. Raises ValueError for wrong weights.
    """
    if alpha == 0:
        return base
    trimmed = (_middle(base.sub(model), density, gamma) for model in models)
    return _linear(base, trimmed, alpha, _checked(weights, len(models)))


def breadcrumbs_ties(models: Sequence[Tensor], base: Tensor, alpha: float, weights: Sequence[float], density: float,
                     gamma: float) -> Tensor:
    """Like `breadcrumbs`, but the kept values are merged as in TIES: the mean of those that agree with the elected sign.

    Davari and Belilovsky 2023: https://arxiv.org/abs/2312.06795; mergekit: https://github.com/arcee-ai/mergekit
    """
    if alpha == 0:
        return base
    return _elected(base, [_middle(base.sub(model), density, gamma) for model in models], alpha, weights)


def _checked(weights: Sequence[float], count: int) -> Sequence[float]:
    if len(weights) != count or not all(map(math.isfinite, weights)):
        raise ValueError(f"weights are {list(weights)} for {count} models besides the base; expected {count} finite numbers.")
    return weights


def _linear(base: Tensor, lost: Iterable[Tensor], alpha: float, weights: Sequence[float]) -> Tensor:
    """W0 - alpha * sum(w_i * lost_i)."""
    # From zeros, so that +0 stays +0 under a negative weight.
    total = base.new_zeros(base.shape)
    for one, weight in zip(lost, weights, strict=True):
        total.add_(one, alpha=weight)
    return subtract(base, total, alpha)


def _elected(base: Tensor, lost: Sequence[Tensor], alpha: float, weights: Sequence[float]) -> Tensor:
    """W0 - alpha * mean of the w_i * lost_i that have the sign of their sum. A 0 agrees with neither sign. Changes `lost`."""
    total, size = base.new_zeros(base.shape), base.new_zeros(base.shape)
    for one, weight in zip(lost, _checked(weights, len(lost)), strict=True):
        total.add_(one.mul_(weight))
        size.add_(one.abs())
    sign = sign_of_sum(total, size, len(lost))
    total.zero_()
    voters = base.new_zeros(base.shape)
    for one, weight in zip(lost, weights, strict=True):
        agrees = one * sign > 0
        total.add_(one.mul_(agrees))
        voters.add_(agrees, alpha=abs(weight))
    return subtract(base, total.div_(voters.masked_fill_(voters == 0, 1)), alpha)


def _largest(lost: Tensor, density: float) -> Tensor:
    mask = highest(lost.abs(), round_share(density, lost.numel()))
    return lost.masked_fill_(mask.logical_not_(), 0)


def _middle(lost: Tensor, density: float, gamma: float) -> Tensor:
    # With gamma * n below 1 no outlier is dropped; the mask of "all but the 0 largest" must not be empty.
    size = lost.numel()
    outliers = floor_share(gamma, size)
    smallest = max(0, size - outliers - round_share(density, size))
    magnitude = lost.abs()
    dropped = lowest(magnitude, smallest)
    if outliers:
        dropped |= highest(magnitude, outliers)
    return lost.masked_fill_(dropped, 0)


def _dropped_at_random(lost: Tensor, density: float, generator: torch.Generator | None) -> Tensor:
    # Divide by the share that is kept. To keep p and divide by 1 - p is a known mistake.
    dropped = _drawn(lost.shape, generator).to(lost.device) >= density
    return lost.masked_fill_(dropped, 0).div_(density or 1.0)


def _dropped_by_rank(lost: Tensor, density: float, epsilon: float, generator: torch.Generator | None) -> Tensor:
    ranks = row_ranks(lost.abs()).view(lost.shape)
    last = matrix(lost).shape[1] - 1
    place = ranks.to(lost.dtype).div_(last).sub_(0.5) if last else lost.new_zeros(lost.shape)
    chance = place.mul_(epsilon).add_(density).clamp_(0, 1)
    dropped = _drawn(lost.shape, generator).to(lost.device) >= chance
    return lost.masked_fill_(dropped, 0).div_(chance.masked_fill_(chance == 0, 1))


def _drawn(shape: torch.Size, generator: torch.Generator | None) -> Tensor:
    """Random numbers in [0, 1), always drawn on the CPU in float32, so they are the same for every device and dtype."""
    import torch

    if generator is None:
        raise ValueError("a random merge method needs a generator; got None.")
    return torch.rand(shape, generator=generator, dtype=torch.float32)
