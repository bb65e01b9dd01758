"""Merges that add a modified difference of two models to A: scaled by distance, without the part A already has, or weighted
by similarity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.merge.inner_products import inner
from harness.merge.linear import add_difference, subtract, weighted_sum

if TYPE_CHECKING:
    from torch import Tensor

TRAIN_SCALE = 1.8
"""SuperMerger's factor. With it, alpha 1 has about the effect of the training."""


def train_difference(a: Tensor, b: Tensor, c: Tensor, alpha: float) -> Tensor:
    """A + 1.8 * alpha * (B - C) * |B - A| / (|B - A| + |B - C|), elementwise; 0 / 0 counts as 0. alpha scales what is
    added. Takes floating tensors of one shape and dtype; at alpha 0 A is returned.

    Where A is already near B, less of what B learnt is added. SuperMerger's trainDifference:
    https://github.com/hako-mikan/sd-webui-supermerger
    """
    if alpha == 0:
        return a
    lost = c.sub(b)
    to_a = b.sub(a).abs_()
    whole = lost.abs().add_(to_a)
    to_a.div_(whole.masked_fill_(whole == 0, 1))
    return subtract(a, lost.mul_(to_a), TRAIN_SCALE * alpha)


def similarity_add(a: Tensor, b: Tensor, c: Tensor, alpha: float, beta: float) -> Tensor:
    """lerp(A + alpha * (B - C), lerp(A, B, alpha / 2), beta * (s + 1) / 2) with s = A * B / max(|A|, |B|)**2, elementwise.
    alpha scales the added difference. beta sets how far similar values are averaged instead (s is 1 for equal values, -1
    for opposite ones). Two zeros count as equal. Takes floating tensors of one shape and dtype; at alpha 0 A is returned.

    sd-meh: https://github.com/s1dlx/meh. s is evaluated as (A / max) * (B / max), whose squares cannot underflow.
    """
    if alpha == 0:
        return a
    largest = a.abs().maximum(b.abs())
    zeros = largest == 0
    largest.masked_fill_(zeros, 1)
    share = a.div(largest).mul_(b).div_(largest).masked_fill_(zeros, 1).add_(1).mul_(beta / 2)
    added = add_difference(a, b, c, alpha)
    return added.sub(added.sub(weighted_sum(a, b, alpha / 2)).mul_(share))


def perpendicular(a: Tensor, b: Tensor, c: Tensor, alpha: float) -> Tensor:
    """A + alpha * (dB - k * dA) with dA = A - C, dB = B - C and k = <dA, dB> / <dA, dA> over the whole tensor: only the part
    of what B learnt that is orthogonal to what A learnt. alpha scales it. Where A equals C, all of dB is added.

    Takes floating tensors of one shape and dtype; at alpha 0 A is returned. sd-mecha: https://github.com/ljleb/sd-mecha
    """
    if alpha == 0:
        return a
    delta_a, delta_b = a.sub(c), b.sub(c)
    square = inner(delta_a, delta_a)
    share = inner(delta_a, delta_b) / square if square else 0.0
    return subtract(a, delta_a.mul_(share).sub_(delta_b), alpha)
