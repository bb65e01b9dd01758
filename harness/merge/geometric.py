"""Geometric means of the weights, or of their differences: magnitudes are averaged on a logarithmic scale."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from harness.merge.linear import sign_of_sum, subtract, weighted_sum

if TYPE_CHECKING:
    from torch import Tensor

_LANES: Final = 64
"""Number of values: a multiple of the vector width of any CPU."""
_ONE_THREAD: Final = 2 ** 14
"""Number of values up to which torch uses a single thread."""


def geometric(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    """Re(A**(1 - alpha) * B**alpha) with the principal complex powers, elementwise. alpha is B's share of the exponent.
    Takes floating tensors of one shape and dtype; at 0 and 1 A and B are returned, and equal values stay the same bits.

    The magnitude is |A|**(1 - alpha) * |B|**alpha. The result of two values with the same sign has that sign. If only A is
    negative it is multiplied by cos(pi * (1 - alpha)), if only B is by cos(pi * alpha). sd-mecha's geometric_sum:
    https://github.com/ljleb/sd-mecha
    """
    import torch

    if alpha in (0, 1):
        return b if alpha else a
    size = _power(a.abs(), 1 - alpha).mul_(_power(b.abs(), alpha))
    # sin(pi * (1/2 - x)) instead of cos(pi * x): it is exactly 0 at x = 1/2.
    cosine = math.sin(math.pi * (0.5 - alpha))
    below_a, below_b = a < 0, b < 0
    factor = torch.ones_like(a).masked_fill_(below_a & below_b, -1)
    factor.masked_fill_(below_a & ~below_b, -cosine).masked_fill_(below_b & ~below_a, cosine)
    return torch.where(a == b, a, size.mul_(factor))


def multiply_difference(a: Tensor, b: Tensor, c: Tensor, alpha: float, beta: float) -> Tensor:
    """C + sgn((1 - beta) * A + beta * B - C) * |A - C|**(1 - alpha) * |B - C|**alpha, elementwise. alpha is B's share of
    the magnitude of the difference from C, beta is B's share in the vote on its sign. Takes floating tensors of one shape and
    dtype.

    Up to rounding the result is A at alpha 0 and beta 0, and B at alpha 1 and beta 1. It is C where the vote is a tie.
    sd-meh: https://github.com/s1dlx/meh
    """
    # The differences vote, because they are nearly exact.
    lost_a, lost_b = c.sub(a), c.sub(b)
    vote = weighted_sum(lost_a, lost_b, beta)
    size_a, size_b = lost_a.abs(), lost_b.abs()
    sign = sign_of_sum(vote, size_a * (1 - beta) + size_b * beta, 2)
    return subtract(c, _power(size_a, 1 - alpha).mul_(_power(size_b, alpha)).mul_(sign), 1.0)


def _power(size: Tensor, exponent: float) -> Tensor:
    """size ** exponent. Equal values give equal bits at every position of the tensor.

    On a CPU torch uses a different formula for the last values of a tensor, or of one thread's part of it, that do not fill a
    vector register. A tensor merged in pieces would then differ in its last bits from one merged whole. Padding avoids this.
    """
    if size.device.type != "cpu":
        return size.pow(exponent)
    import torch

    padded = torch.nn.functional.pad(size.reshape(-1), (0, -size.numel() % _LANES))
    for start in range(0, padded.numel(), _ONE_THREAD):
        padded[start:start + _ONE_THREAD].pow_(exponent)
    return padded[:size.numel()].reshape(size.shape)
