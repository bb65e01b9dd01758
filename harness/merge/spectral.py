"""Merges by singular vectors: the difference cut to a low rank, and the rotation that turns A's weights towards B's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.merge.inner_products import matrix
from harness.merge.linear import add_difference, subtract, weighted_sum

if TYPE_CHECKING:
    from torch import Tensor


def rank_k(a: Tensor, b: Tensor, c: Tensor, alpha: float, rank: int) -> Tensor:
    """A + alpha * U_k S_k V_k^T, of the singular value decomposition U S V^T of B - C as the matrix (out, everything else)
    the `rank` = k largest singular values: the nearest matrix of that rank. alpha scales it. A matrix whose smaller side
    is at most k, such as every bias and norm, has all of its difference added.

    Evaluated as D projected on its k leading singular vectors of the smaller side, from the eigenvectors of D D^T in
    float64: what differs from a full decomposition is below 1e-8 of the largest singular value. Singular values that are
    equal at the cut leave the choice to LAPACK. Floating tensors of one shape and dtype; at alpha 0 A is returned.
    Eckart and Young 1936, https://doi.org/10.1007/BF02288367; sd-mecha's truncate_rank: https://github.com/ljleb/sd-mecha
    """
    import torch

    rows = matrix(a)
    if alpha == 0 or rank >= min(rows.shape):
        return add_difference(a, b, c, alpha)
    lost = matrix(c.sub(b)).double()
    if not bool(lost.any()):
        return a
    wide = lost if lost.shape[0] <= lost.shape[1] else lost.T
    vectors = torch.linalg.eigh(wide @ wide.T).eigenvectors[:, -rank:]
    low = vectors @ (vectors.T @ wide)
    return subtract(a, (low if wide is lost else low.T).reshape(a.shape).to(a.dtype), alpha)


def rotate(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    """(A - mean(A)) Q^alpha + (1 - alpha) * mean(A) + alpha * mean(B), means over rows, with the rotation Q = U V^T that
    turns the centred rows of A nearest to those of B; U S V^T = (A - mean(A))^T (B - mean(B)), and the least singular
    vector is turned round where Q would be a reflection (Kabsch). Q^alpha turns by alpha times the angles of Q. alpha
    is thus how far A is turned: at 1 it is A in the orientation of B, not B.

    A is the matrix (out, everything else); where it has fewer rows than columns its columns are turned instead, so that Q
    has the smaller side. Biases, norms and matrices with a side of 1 are merged by the weighted sum; equal models stay as
    they are. Float64 within. Where the smaller matrix is not of full rank, Q is LAPACK's choice among equals. Floating
    tensors of one shape and dtype; at alpha 0 A is returned.
    Schoenemann 1966, https://doi.org/10.1007/BF02289451; sd-mecha's rotate: https://github.com/ljleb/sd-mecha
    """
    import torch

    if alpha == 0 or torch.equal(a, b):
        return a
    rows_a, rows_b = matrix(a), matrix(b)
    if min(rows_a.shape) == 1:
        return weighted_sum(a, b, alpha)
    turned = rows_a.shape[0] < rows_a.shape[1]
    rows_a, rows_b = ((t.T if turned else t).double() for t in (rows_a, rows_b))
    mean_a, mean_b = rows_a.mean(0), rows_b.mean(0)
    rows_a, rows_b = rows_a - mean_a, rows_b - mean_b
    out = rows_a @ rotation_power(nearest_rotation(rows_a.T @ rows_b), alpha) + weighted_sum(mean_a, mean_b, alpha)
    return (out.T if turned else out).reshape(a.shape).to(a.dtype)


def nearest_rotation(product: Tensor) -> Tensor:
    """U V^T with determinant 1 from the decomposition U S V^T of an (n, n) float64 tensor."""
    import torch

    u, _, v = torch.linalg.svd(product)
    if float(torch.linalg.slogdet(u)[0] * torch.linalg.slogdet(v)[0]) < 0:
        u[:, -1].neg_()
    nearest: Tensor = u @ v
    return nearest


def rotation_power(rotation: Tensor, power: float) -> Tensor:
    """The rotation by `power` times the angles of an (n, n) float64 rotation; powers from 0 to 1.

    With S and K its symmetric and antisymmetric halves, of a rotation by angle t S has the eigenvalue cos(t) and K is
    sin(t) * J on that plane: so the power is cos(power * t) + K * sin(power * t) / sin(t), functions of S alone, and the
    real, symmetric eigenvalue problem is the only one. Half turns (K = 0) come in pairs, each of which is one plane.
    """
    import torch

    if power == 1:
        return rotation
    cosine, vectors = torch.linalg.eigh((rotation + rotation.T) / 2)
    # Near half turns the cosine alone has too few digits of the sine; K has them.
    across = (rotation - rotation.T) / 2 @ vectors
    sine = across.norm(dim=0)
    angle = torch.atan2(sine, cosine)
    half_turn = (sine < 1e-6) & (cosine < 0)
    ratio = torch.where(sine == 0, power, torch.sin(power * angle) / sine.masked_fill(sine == 0, 1))
    ratio.masked_fill_(half_turn, 0)
    out: Tensor = (vectors * torch.cos(power * angle) + across * ratio) @ vectors.T
    first, second = vectors[:, half_turn][:, 0::2], vectors[:, half_turn][:, 1::2]
    first = first[:, :second.shape[1]]
    return out.add_(first @ second.T - second @ first.T, alpha=math.sin(power * math.pi))
