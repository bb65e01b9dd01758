"""OFT and BOFT: the outputs of a layer rotated by orthogonal blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.adapters.change import Change
from harness.adapters.kinds.kind import AdapterKind, Shape, Wanted, misfit, no_rank, ones, size

if TYPE_CHECKING:
    from torch import Tensor


def oft_delta(change: Change, w0: Tensor, strength: float) -> Tensor:
    """W - W0 with W = (1 + m (rescale - 1)) * (m R^T + (1 - m) I) W0 for m = strength * scale: W0's outputs in n blocks of
    s rows, rotated by the n rotations R of `oft_blocks` (n, s, s), and scaled by row if there is a `rescale`.

    Without rescale it equals LyCORIS and kohya at every m, with rescale at m = 1; at m = 0 LyCORIS then gives W0 * rescale,
    this function W0. Qiu et al. 2023, https://arxiv.org/abs/2306.07280; LyCORIS' DiagOFTModule
    """
    import torch

    m = strength * change.scale
    blocks = change.tensors["oft_blocks"]
    turn = rotations(blocks, constraint(change, w0.shape[0])) - _eye(blocks)
    rows = w0.reshape(blocks.shape[0], blocks.shape[1], -1)
    turned = torch.einsum("knm,knj->kmj", turn, rows).reshape(w0.shape).mul_(m)
    return _rescaled(change, w0, turned, m)


def boft_delta(change: Change, w0: Tensor, strength: float) -> Tensor:
    """W - W0 with W = rescale * (B_m ... B_2 B_1) W0 for `oft_blocks` (m, n, s, s): stage i applies n rotations to the
    outputs, reordered so that rows 2^i * s / 2 apart are in one block. At a strength each stage is strength * R + (1 -
    strength) * I, as in LyCORIS, and rescale is 1 + strength * (rescale - 1).

    Liu et al. 2023, https://arxiv.org/abs/2311.06243; LyCORIS' ButterflyOFTModule
    """
    import torch

    m = strength * change.scale
    blocks = change.tensors["oft_blocks"]
    turns = rotations(blocks, constraint(change, w0.shape[0])) * m + _eye(blocks) * (1 - m)
    rows = w0.reshape(w0.shape[0], -1)
    half = blocks.shape[-1] // 2
    for stage, turn in enumerate(turns):
        apart = 2 ** stage * half
        mixed = rows.reshape(-1, 2, apart, rows.shape[1]).transpose(1, 2).reshape(turn.shape[0], turn.shape[1], -1)
        mixed = torch.einsum("bij,bjk->bik", turn, mixed)
        rows = mixed.reshape(-1, apart, 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)
    return _rescaled(change, w0, rows.reshape(w0.shape) - w0, m)


def rotations(blocks: Tensor, limit: float | None) -> Tensor:
    """(I + Q) (I - Q)^-1 with Q = B - B^T, shrunk to a Frobenius norm of at most `limit` over all blocks (None: no limit).
    This is the Cayley transform: from (..., s, s) to orthogonal matrices of the same shape and dtype."""
    import torch

    q = blocks - blocks.transpose(-1, -2)
    if limit is not None:
        norm = float(q.double().norm())
        if norm > limit:
            q = q * (limit / norm)
    eye = _eye(q)
    # I - Q and I + Q commute, so their order does not matter.
    turned: Tensor = torch.linalg.solve(eye - q, eye + q)
    return turned


def constraint(change: Change, outputs: int) -> float | None:
    """alpha * outputs, the largest norm of Q. None without alpha, or if alpha is 0, which LyCORIS writes for no constraint.
    (kohya's alpha 0 means no change: such a file is read with scale 0.)"""
    return change.alpha * outputs if change.alpha else None


def oft_wanted(change: Change, shape: Shape) -> Wanted:
    """oft_blocks (n, s, s) with n * s = out; rescale (out, 1, ...)."""
    out = shape[0]
    s = size(change, "oft_blocks", 2)
    return {"oft_blocks": ((out // max(1, s), s, s),) if s and out % s == 0 else (), **_rescale_wanted(shape)}


def boft_wanted(change: Change, shape: Shape) -> Wanted:
    """oft_blocks (m, n, s, s) with n * s = out, s even, and m stages whose widest block 2^(m-1) * s divides out."""
    out = shape[0]
    m, s = size(change, "oft_blocks", 0), size(change, "oft_blocks", 3)
    if s < 2 or s % 2 or out % s or out % (2 ** (m - 1) * s):
        raise misfit(change, "oft_blocks", tuple(change.tensors["oft_blocks"].shape),
                     f"(m, n, s, s) with n * s = {out}, s even and 2^(m-1) * s a divisor of {out}")
    return {"oft_blocks": ((m, out // s, s, s),), **_rescale_wanted(shape)}


def _rescale_wanted(shape: Shape) -> dict[str, tuple[Shape, ...]]:
    return {"rescale": ((shape[0], 1, *ones(shape)), (shape[0],))}


def _rescaled(change: Change, w0: Tensor, turned: Tensor, m: float) -> Tensor:
    """The change of W0 when W0 + turned is multiplied by row with 1 + m * (rescale - 1)."""
    if "rescale" not in change.tensors:
        return turned
    more = (change.tensors["rescale"].reshape(-1, *(1 for _ in w0.shape[1:])) - 1) * m
    return turned + more * (w0 + turned)


def _eye(blocks: Tensor) -> Tensor:
    import torch

    return torch.eye(blocks.shape[-1], dtype=blocks.dtype, device=blocks.device)


OFT: Final = AdapterKind(
    says="orthogonal blocks (OFT)", layouts=(("oft_blocks",),), optional=("rescale", "diff_b"), additive=False,
    wanted=oft_wanted, delta=oft_delta, rank=no_rank, paper="https://arxiv.org/abs/2306.07280")
BOFT: Final = AdapterKind(
    says="butterflies of orthogonal blocks (BOFT)", layouts=(("oft_blocks",),), optional=("rescale", "diff_b"), additive=False,
    wanted=boft_wanted, delta=boft_delta, rank=no_rank, paper="https://arxiv.org/abs/2311.06243")
