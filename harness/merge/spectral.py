"""Merges by singular vectors: a difference truncated to a low rank, and a rotation of A's weights towards B's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.merge.inner_products import matrix
from harness.merge.linear import add_difference, subtract, weighted_sum

if TYPE_CHECKING:
    from torch import Tensor


def rank_k(a: Tensor, b: Tensor, c: Tensor, alpha: float, rank: int) -> Tensor:
    """A + alpha * U_k S_k V_k^T with the `rank` = k largest singular values of D = B - C = U S V^T as the matrix (out,
    everything else): the nearest matrix of rank k. alpha scales it. If the smaller side of the matrix is at most k, as for
    every bias and norm, all of D is added.

    Evaluated as the projection of D on its k leading singular vectors of the smaller side, from the eigenvectors of D D^T in
    float64. The deviation from a full decomposition is below 1e-8 of the largest singular value. If singular values are
    equal at the cut, LAPACK decides. Takes floating tensors of one shape and dtype; at alpha 0 A is returned.
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
    """(A - mean(A)) Q^alpha + (1 - alpha) * mean(A) + alpha * mean(B), with means over rows. Q = U V^T is the rotation that
    brings the centred rows of A nearest to those of B, from U S V^T = (A - mean(A))^T (B - mean(B)); the least singular
    vector is negated if Q would be a reflection (Kabsch). Q^alpha rotates by alpha times the angles of Q. alpha is thus how
    far A is rotated: at 1 the result is A in the orientation of B, not B.

    A is the matrix (out, everything else). If it has fewer rows than columns, its columns are rotated instead, so that Q has
    the smaller size. Biases, norms and matrices with a side of 1 are merged by the weighted sum. Equal models stay the same.
    Arithmetic is in float64. If the smaller matrix lacks full rank, LAPACK decides between equally good rotations. Takes
    floating tensors of one shape and dtype; at alpha 0 A is returned.
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
    """The rotation by `power` (0 to 1) times the angles of an (n, n) float64 rotation.

    S and K are its symmetric and antisymmetric parts. On a plane that is rotated by the angle t, S has the eigenvalue cos(t)
    and K is sin(t) * J. The power is cos(power * t) + K * sin(power * t) / sin(t), with factors that are functions of S, so
    only a real symmetric eigenvalue problem has to be solved. Half turns (K = 0) come in pairs, and each pair is one plane.
    """
    import torch

    if power == 1:
        return rotation
    cosine, vectors = torch.linalg.eigh((rotation + rotation.T) / 2)
    # Near half turns the cosine gives too few digits of the sine; K has them.
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
