"""The type of a row of KINDS, and helpers for the shapes of an adapter's tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from harness.adapters.change import Change
from harness.adapters.live_plan import AdapterError

if TYPE_CHECKING:
    from torch import Tensor

Shape: TypeAlias = tuple[int, ...]
Wanted: TypeAlias = Mapping[str, tuple[Shape, ...]]
"""The allowed shapes of each role for one weight, the usual one first."""


@dataclass(frozen=True, kw_only=True)
class AdapterKind:
    """A row of KINDS.

    A change has all roles of one of `layouts`, and may have those of `optional`. `additive` says that the change does not
    depend on the weight it is added to. `wanted` returns the shapes that the tensors of a change must have for a weight's
    shape. `delta` returns what a change at a strength adds to w0, in w0's dtype (float32 or float64) and shape, from
    tensors cast to that dtype. `changed`, if a kind has it, returns w0 + delta, written to `out` if given, without a dense
    delta in between. `rank` returns the divisor of alpha, 0 if alpha is not divided.
    """

    says: str
    layouts: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...] = ("diff_b",)
    additive: bool
    wanted: Callable[[Change, Shape], Wanted]
    delta: Callable[[Change, Tensor, float], Tensor]
    rank: Callable[[Mapping[str, Tensor]], int]
    paper: str
    changed: Callable[[Change, Tensor, float, Tensor | None], Tensor] | None = None
    version: int = 1

    @property
    def roles(self) -> frozenset[str]:
        """Every role that a change of this kind can have."""
        return frozenset(role for layout in self.layouts for role in layout) | frozenset(self.optional)


def no_rank(tensors: Mapping[str, Tensor]) -> int:  # noqa: ARG001 - one signature for all kinds
    """0, for kinds without a rank."""
    return 0


def size(change: Change, role: str, axis: int) -> int:
    """The length of an axis of a role's tensor. Raises AdapterError for a tensor without such an axis."""
    shape = tuple(change.tensors[role].shape)
    if len(shape) <= axis:
        raise misfit(change, role, shape, f"at least {axis + 1} axes")
    return shape[axis]


def misfit(change: Change, role: str, found: Shape, expected: object) -> AdapterError:
    """The error for a tensor of the wrong shape: component, path, kind, role, shape found and shape expected."""
    return AdapterError(f"{change.component} {change.path}: {role} of its {change.kind} has shape {found}, expected {expected}")


def ones(shape: Shape) -> tuple[int, ...]:
    """A 1 for each axis of the shape after the second."""
    return (1,) * max(0, len(shape) - 2)


def tucker(core: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """sum over m, n of core[m, n, ...] * left[m, out] * right[n, in]: (out, in, ...) from a core (m, n, kh, kw).

    https://arxiv.org/abs/2108.06098 (FedPara), proposition 3
    """
    import torch

    return torch.einsum("mn...,mi,nj->ij...", core, left, right)
