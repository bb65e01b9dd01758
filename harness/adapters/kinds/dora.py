"""DoRA: any additive kind, with the changed weight's rows or columns scaled to given lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.adapters.kinds.kind import Shape, ones

if TYPE_CHECKING:
    from torch import Tensor


def decomposed(changed: Tensor, magnitude: Tensor) -> Tensor:
    """magnitude * V / ||V|| for V = W0 + delta, shaped as the weight: norms over each output's row for a magnitude (out,)
    or (out, 1, ...), over each input's column, kernel and all, for (1, in, ...). A row of zeros stays zero.

    The norm is V's (ComfyUI takes W0's). Liu et al. 2024, https://arxiv.org/abs/2402.09353
    """
    import torch

    axis = norm_axis(tuple(magnitude.shape), tuple(changed.shape))
    others = [number for number in range(changed.ndim) if number != axis]
    norm = torch.linalg.vector_norm(changed, dim=others, keepdim=True)
    # Division by a length of 0 would make the row NaN; PEFT and LyCORIS cannot train such a row either.
    lengths: Tensor = magnitude.reshape(norm.shape) / norm.masked_fill(norm == 0, 1)
    return changed * lengths


def norm_axis(magnitude: Shape, weight: Shape) -> int:
    """0 if the magnitude is by output, 1 by input. A magnitude of one axis is by output, even for square weights."""
    return 0 if len(magnitude) == 1 or (magnitude[0] == weight[0] and magnitude[1] == 1) else 1


def magnitudes(shape: Shape) -> tuple[Shape, ...]:
    """The shapes that a magnitude may have for a weight (out, in, ...)."""
    return ((shape[0],), (shape[0], 1, *ones(shape)), (1, shape[1], *ones(shape)))
