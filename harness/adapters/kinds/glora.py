"""GLoRA and (IA)^3: changes proportional to the weight they change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from harness.adapters.change import Change, on_input
from harness.adapters.kinds.kind import AdapterKind, Shape, Wanted, no_rank, ones, size

if TYPE_CHECKING:
    from torch import Tensor


def glora_delta(change: Change, w0: Tensor, strength: float) -> Tensor:
    """strength * scale * (W0 @ a1 @ a2 + b1 @ b2), with a1 (in, r), a2 (r, in), b1 (out, r), b2 (r, in, kh, kw); for a
    convolution, W0 @ a1 @ a2 is over the inputs at each kernel position.

    Chavan et al. 2023, https://arxiv.org/abs/2306.07967; LyCORIS' GLoRAModule
    """
    import torch

    a1, a2, b1, b2 = (change.tensors[role].flatten(1) for role in ("a1", "a2", "b1", "b2"))
    turned = torch.einsum("oi...,ir,rj->oj...", w0, a1, a2)
    return turned.add_((b1 @ b2).reshape(w0.shape)).mul_(strength * change.scale)


def glora_wanted(change: Change, shape: Shape) -> Wanted:
    """a1 (in, r), a2 (r, in), b1 (out, r), b2 (r, in, kh, kw)."""
    out, inputs, *kernel = shape
    a, b = size(change, "a2", 0), size(change, "b2", 0)
    ends = ones(shape)
    return {"a1": ((inputs, a, *ends),), "a2": ((a, inputs, *ends),), "b1": ((out, b, *ends),),
            "b2": ((b, inputs, *kernel), (b, inputs * math.prod(kernel)))}


def glora_rank(tensors: Mapping[str, Tensor]) -> int:
    """The first axis of a2."""
    return int(tensors["a2"].shape[0])


def ia3_delta(change: Change, w0: Tensor, strength: float) -> Tensor:
    """strength * scale * W0 * weight, by row, or by column with on_input: W = W0 * (1 + strength * weight).

    The bias is unchanged. PEFT's ia3_l is 1 + weight, and scales the bias too. Liu et al. 2022,
    https://arxiv.org/abs/2205.05638; LyCORIS' IA3Module
    """
    weight = change.tensors["weight"].reshape(-1)
    axis = int(on_input(change))
    by_axis = weight.reshape([-1 if number == axis else 1 for number in range(w0.ndim)])
    return w0 * by_axis * (strength * change.scale)


def ia3_wanted(change: Change, shape: Shape) -> Wanted:
    """weight (out,), or (in,) with on_input; convolutions have it as (1, out, 1, 1)."""
    length = shape[1] if on_input(change) else shape[0]
    return {"weight": ((length,), (1, length), (length, 1)), "on_input": ((), (1,))}


GLORA: Final = AdapterKind(
    says="generalised LoRA (GLoRA)", layouts=(("a1", "a2", "b1", "b2"),), additive=False, wanted=glora_wanted,
    delta=glora_delta, rank=glora_rank, paper="https://arxiv.org/abs/2306.07967")
IA3: Final = AdapterKind(
    says="scaled rows or columns ((IA)^3)", layouts=(("weight",),), optional=("on_input", "diff_b"), additive=False,
    wanted=ia3_wanted, delta=ia3_delta, rank=no_rank, paper="https://arxiv.org/abs/2205.05638")
