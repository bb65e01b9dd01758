"""LoKr: a Kronecker product whose factors may be low-rank products."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from harness.adapters.change import Change
from harness.adapters.kinds.kind import AdapterKind, Shape, Wanted, misfit, size, tucker

if TYPE_CHECKING:
    from torch import Tensor


def delta(change: Change, w0: Tensor, strength: float) -> Tensor:
    """strength * scale * kron(w1, w2) over outputs and inputs; the kernel is w2's: w1 (a, c) and w2 (b, d, kh, kw) give a
    weight (a b, c d, kh, kw). Each factor is full or w_a @ w_b; w2 also sum over i, j of t2[i, j] * w2_a[i, :] * w2_b[j,
    :].

    The scale is alpha / rank if a factor is a product, and 1 if both are full; alpha is then arbitrary, such as 1e10.
    Edalati et al. 2022, https://arxiv.org/abs/2212.10650; LyCORIS, https://arxiv.org/abs/2309.14859
    """
    import torch

    w1, w2 = _first(change.tensors), _second(change.tensors)
    inputs = w0.shape[1] // w1.shape[1]
    w2 = w2.reshape(w0.shape[0] // w1.shape[0], inputs, *w0.shape[2:])
    return torch.einsum("ac,bd...->abcd...", w1, w2).reshape(w0.shape).mul_(strength * change.scale)


def _first(tensors: Mapping[str, Tensor]) -> Tensor:
    return tensors["w1"].flatten(1) if "w1" in tensors else tensors["w1_a"].flatten(1) @ tensors["w1_b"].flatten(1)


def _second(tensors: Mapping[str, Tensor]) -> Tensor:
    if "w2" in tensors:
        return tensors["w2"]
    a, b = tensors["w2_a"], tensors["w2_b"]
    return tucker(tensors["t2"], a, b) if "t2" in tensors else a.flatten(1) @ b.flatten(1)


def wanted(change: Change, shape: Shape) -> Wanted:
    """w1 (a, c), with a and c divisors of out and in, then w2 (out / a, in / c, kh, kw); products as (., r) and (r, .),
    with t2 (r, r, kh, kw) as (r, out / a) and (r, in / c). The kernel may be flattened into the inputs of w2 or w2_b."""
    out, inner, *kernel = shape
    wants: dict[str, tuple[Shape, ...]] = {}
    if "w1" in change.tensors:
        a, c, last = size(change, "w1", 0), size(change, "w1", 1), "w1"
        wants["w1"] = ((a, c),)
    else:
        a, r, c, last = size(change, "w1_a", 0), size(change, "w1_b", 0), size(change, "w1_b", 1), "w1_a"
        wants |= {"w1_a": ((a, r),), "w1_b": ((r, c),)}
    if not a or not c or out % a or inner % c:
        raise misfit(change, last, tuple(change.tensors[last].shape),
                     f"rows that divide {out} and columns that divide {inner}: the first factor is ({a}, {c})")
    b, d = out // a, inner // c
    if "w2" in change.tensors:
        return wants | {"w2": ((b, d, *kernel), (b, d * math.prod(kernel)))}
    r = size(change, "w2_b", 0)
    if "t2" in change.tensors:
        return wants | {"w2_a": ((r, b),), "w2_b": ((r, d),), "t2": ((r, r, *kernel),)}
    return wants | {"w2_a": ((b, r),), "w2_b": ((r, d * math.prod(kernel)), (r, d, *kernel))}


def rank(tensors: Mapping[str, Tensor]) -> int:
    """The first axis of w2_b or w1_b; 0 if both factors are full."""
    factored = [tensors[role] for role in ("w2_b", "w1_b") if role in tensors]
    return int(factored[0].shape[0]) if factored else 0


_FIRSTS: Final = (("w1",), ("w1_a", "w1_b"))
_SECONDS: Final = (("w2",), ("w2_a", "w2_b"), ("w2_a", "w2_b", "t2"))
LOKR: Final = AdapterKind(
    says="Kronecker product (LoKr)", layouts=tuple((*first, *second) for first in _FIRSTS for second in _SECONDS),
    additive=True, wanted=wanted, delta=delta, rank=rank, paper="https://arxiv.org/abs/2212.10650")
