"""LoHa: the elementwise product of two low-rank products."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from harness.adapters.change import Change
from harness.adapters.kinds.kind import AdapterKind, Shape, Wanted, size, tucker

if TYPE_CHECKING:
    from torch import Tensor

_PLAIN: Final = ("w1_a", "w1_b", "w2_a", "w2_b")


def delta(change: Change, w0: Tensor, strength: float) -> Tensor:
    """strength * scale * (w1_a @ w1_b) * (w2_a @ w2_b), elementwise between the two, in the weight's shape; with cores t1
    and t2 (r, r, kh, kw), w_a (r, out) and w_b (r, in), each half is sum over i, j of t[i, j] * w_a[i, :] * w_b[j, :].

    The scale is applied once; LyCORIS 4.1.3 applies it twice when merging, but not when running. Hyeon-Woo et al. 2021,
    https://arxiv.org/abs/2108.06098; LyCORIS, https://arxiv.org/abs/2309.14859
    """
    first, second = (_half(change.tensors, number) for number in ("1", "2"))
    return first.mul_(second).reshape(w0.shape).mul_(strength * change.scale)


def _half(tensors: Mapping[str, Tensor], number: str) -> Tensor:
    a, b = tensors[f"w{number}_a"], tensors[f"w{number}_b"]
    if f"t{number}" in tensors:
        return tucker(tensors[f"t{number}"], a, b)
    return a.flatten(1) @ b.flatten(1)


def wanted(change: Change, shape: Shape) -> Wanted:
    """w_a (out, r) and w_b (r, in * kh * kw); with cores t (r, r, kh, kw) they are (r, out) and (r, in)."""
    out, *rest = shape
    wants: dict[str, tuple[Shape, ...]] = {}
    for number in ("1", "2"):
        r = size(change, f"w{number}_b", 0)
        if "t1" in change.tensors:
            wants |= {f"w{number}_a": ((r, out),), f"w{number}_b": ((r, rest[0]),), f"t{number}": ((r, r, *rest[1:]),)}
            continue
        columns = 1
        for length in rest:
            columns *= length
        wants |= {f"w{number}_a": ((out, r),), f"w{number}_b": ((r, columns), (r, *rest))}
    return wants


def rank(tensors: Mapping[str, Tensor]) -> int:
    """The first axis of w1_b."""
    return int(tensors["w1_b"].shape[0])


LOHA: Final = AdapterKind(
    says="Hadamard product of two low-rank products (LoHa)", layouts=(_PLAIN, (*_PLAIN, "t1", "t2")), additive=True,
    wanted=wanted, delta=delta, rank=rank, paper="https://arxiv.org/abs/2108.06098")
