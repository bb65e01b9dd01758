"""Full differences: of a layer (diff, diff_b) and of a norm (w_norm, b_norm)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.adapters.change import Change
from harness.adapters.kinds.kind import AdapterKind, Shape, Wanted, no_rank

if TYPE_CHECKING:
    from torch import Tensor


def delta(change: Change, w0: Tensor, strength: float) -> Tensor:
    """strength * scale * diff, or w_norm, in the weight's shape; 0 if the file changes only the bias."""
    role = "w_norm" if change.kind == "norm" else "diff"
    if role not in change.tensors:
        import torch

        return torch.zeros(w0.shape, dtype=w0.dtype, device=w0.device)
    return change.tensors[role].reshape(w0.shape) * (strength * change.scale)


def wanted(change: Change, shape: Shape) -> Wanted:  # noqa: ARG001 - one signature for all kinds
    """The difference has the weight's shape; biases are checked for every kind."""
    return {"diff": (shape,), "w_norm": (shape,)}


FULL: Final = AdapterKind(
    says="whole difference", layouts=(("diff",), ("diff_b",)), additive=True, wanted=wanted, delta=delta, rank=no_rank,
    paper="https://github.com/KohakuBlueleaf/LyCORIS")
NORM: Final = AdapterKind(
    says="difference of a norm", layouts=(("w_norm",),), optional=("b_norm",), additive=True, wanted=wanted, delta=delta,
    rank=no_rank, paper="https://github.com/KohakuBlueleaf/LyCORIS")
