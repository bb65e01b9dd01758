"""The nearest low-rank approximation of a matrix or of a product of two thin matrices, and its error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.adapters.live_plan import AdapterError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How much of every module to keep: either the `rank` largest singular values, or as few as keep the relative Frobenius
    error at or below `relative_error`."""

    rank: int | None = None
    relative_error: float | None = None

    def __post_init__(self) -> None:
        if (self.rank is None) == (self.relative_error is None):
            raise AdapterError(f"rank {self.rank} and relative error {self.relative_error} given; expected one of the two")
        if self.rank is not None and self.rank < 1:
            raise AdapterError(f"rank {self.rank} given; expected 1 or more")
        if self.relative_error is not None and not 0 <= self.relative_error < 1:
            raise AdapterError(f"relative error {self.relative_error} given; expected at least 0 and less than 1")


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """up @ down, float64 (out, r) and (r, columns). Their columns and rows are the singular vectors, each times the square
    root of its singular value. `residual` is the relative Frobenius error, 0 for a matrix of zeros."""

    up: Tensor
    down: Tensor
    residual: float


def nearest_to_product(up: Tensor, down: Tensor, cut: Cut) -> LowRank:
    """The nearest low-rank matrix to up @ down, (out, R) @ (R, columns), without forming it: with U = Q_u R_u and
    D^T = Q_d R_d the singular values are those of R_u R_d^T, which is R x R.

    Costs about (out + columns) * R^2 instead of out * columns * min(out, columns); float64 within, tensors of any floating
    dtype. Eckart and Young 1936, https://doi.org/10.1007/BF02288367; QR of factors: https://doi.org/10.1137/090771806, 3.1
    """
    import torch

    left, left_square = torch.linalg.qr(up.double())
    right, right_square = torch.linalg.qr(down.double().T)
    u, values, v = torch.linalg.svd(left_square @ right_square.T)
    k, residual = kept(values.square(), cut)
    roots = values[:k].sqrt()
    return LowRank(up=left @ (u[:, :k] * roots), down=(roots[:, None] * v[:k]) @ right.T, residual=residual)


def nearest_to_matrix(matrix: Tensor, cut: Cut) -> LowRank:
    """The nearest low-rank matrix to an (out, columns) matrix of any floating dtype.

    V V^T M from the eigenvectors V of the smaller of M M^T and M^T M, in float64. Its error differs from that of a singular
    value decomposition by less than 1e-8 of the largest singular value, in a fraction of the time. Eckart and Young 1936,
    https://doi.org/10.1007/BF02288367
    """
    import torch

    whole = matrix.double()
    wide = whole if whole.shape[0] <= whole.shape[1] else whole.T
    vectors = torch.linalg.eigh(wide @ wide.T).eigenvectors.flip(1)
    rows = vectors.T @ wide
    k, residual = kept(rows.square().sum(1), cut)
    roots = torch.linalg.vector_norm(rows[:k], dim=1).sqrt()
    up, down = vectors[:, :k] * roots, rows[:k] / roots.masked_fill(roots == 0, 1)[:, None]
    return LowRank(up=up, down=down, residual=residual) if wide is whole else LowRank(up=down.T, down=up.T, residual=residual)


def kept(squares: Tensor, cut: Cut) -> tuple[int, float]:
    """The number of singular values that a cut keeps, at least 1, from their squares in descending order, and the relative
    Frobenius error."""
    # Summed from the smallest, so that a tail of 1e-16 of the total is not lost in rounding.
    tails = squares.flip(0).cumsum(0).flip(0)
    total = float(tails[0])
    if cut.rank is not None:
        k = min(cut.rank, len(squares))
    else:
        assert cut.relative_error is not None
        k = max(1, int((tails > cut.relative_error ** 2 * total).sum()))
    lost = float(tails[k]) if k < len(squares) else 0.0
    return k, (lost / total) ** 0.5 if total > 0 else 0.0


def stacked(products: Sequence[tuple[float, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The sum of c * up @ down as one exact product: [c1' U1, c2' U2, ...] and [d1 D1; d2 D2; ...] with d = sqrt(|c|) and
    c' = sign(c) d, which keeps both factors in range. Takes triples (c, up (out, r), down (r, columns)) of any floating
    dtype; returns float64."""
    import torch

    ups = [up.double() * (abs(c) ** 0.5 * (-1 if c < 0 else 1)) for c, up, _ in products]
    downs = [down.double() * abs(c) ** 0.5 for c, _, down in products]
    return torch.cat(ups, dim=1), torch.cat(downs, dim=0)
