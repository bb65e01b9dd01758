"""LoRA and LoCon: a low-rank product, for convolutions optionally with a Tucker core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from harness.adapters.change import Change
from harness.adapters.kinds.kind import AdapterKind, Shape, Wanted, ones, size, tucker

if TYPE_CHECKING:
    from torch import Tensor


def delta(change: Change, w0: Tensor, strength: float) -> Tensor:
    """strength * scale * up @ down in the weight's shape (out, in, kh, kw). With `mid`, where down is (r, in, 1, 1), the
    Tucker form: sum over m, n of mid[m, n] * up[:, m] * down[n, :] for each kernel position.

    A 1 x 1 convolution and a linear layer have the same weights. Hu et al. 2021, https://arxiv.org/abs/2106.09685; LyCORIS,
    https://arxiv.org/abs/2309.14859
    """
    up, down = low_rank(change)
    return (up @ down).reshape(w0.shape).mul_(strength * change.scale)


def changed(change: Change, w0: Tensor, strength: float, out: Tensor | None = None) -> Tensor:
    """w0 + delta in one pass over the weight, written to `out` if given; w0 is not modified."""
    import torch

    up, down = low_rank(change)
    result = torch.empty_like(w0, memory_format=torch.contiguous_format) if out is None else out
    torch.addmm(w0.flatten(1), up, down, alpha=strength * change.scale, out=result.view(w0.shape[0], -1))
    return result


def low_rank(change: Change) -> tuple[Tensor, Tensor]:
    """The matrices (out, r) and (r, in * kh * kw) whose product is the change at scale 1.

    A Tucker core is multiplied into the second: sum over n of mid[m, n] * down[n, in] is (r, in, kh, kw), of the same rank.
    """
    up, down = change.tensors["up"].flatten(1), change.tensors["down"].flatten(1)
    if "mid" not in change.tensors:
        return up, down
    import torch

    mid = change.tensors["mid"]
    return up, tucker(mid, torch.eye(mid.shape[0], dtype=mid.dtype, device=mid.device), down).flatten(1)


def wanted(change: Change, shape: Shape) -> Wanted:
    """down (r, in, kh, kw) and up (out, r, 1, 1); with mid (r, r, kh, kw) down is (r, in, 1, 1)."""
    out, *rest = shape
    down_rank = size(change, "down", 0)
    if "mid" not in change.tensors:
        flat = (down_rank, *rest)
        return {"down": (flat,), "up": ((out, down_rank, *ones(shape)),)}
    up_rank = size(change, "up", 1)
    return {"down": ((down_rank, rest[0], *ones(shape)),), "up": ((out, up_rank, *ones(shape)),),
            "mid": ((up_rank, down_rank, *rest[1:]),)}


def rank(tensors: Mapping[str, Tensor]) -> int:
    """The first axis of `down`."""
    return int(tensors["down"].shape[0])


LORA: Final = AdapterKind(
    says="low-rank product (LoRA, LoCon)", layouts=(("down", "up"), ("down", "up", "mid")), optional=("bias", "diff_b"),
    additive=True, wanted=wanted, delta=delta, changed=changed, rank=rank, paper="https://arxiv.org/abs/2106.09685")
