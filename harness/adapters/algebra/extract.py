"""Extracts an adapter from two models: differences of weights as LoRA, norms and biases as full differences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.adapters.algebra.combine import lora_change
from harness.adapters.algebra.low_rank import Cut, nearest_to_matrix
from harness.adapters.algebra.report import Algebra, ModuleReport, report_of
from harness.adapters.change import Change
from harness.adapters.live_plan import AdapterError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A module in two models: its weight in each, and its bias if it has one."""

    component: str
    path: str
    base: Tensor
    tuned: Tensor
    base_bias: Tensor | None = None
    tuned_bias: Tensor | None = None


def extract(pair: Pair, cut: Cut) -> tuple[Change | None, ModuleReport]:
    """The change from the base's module to the tuned one, None if they are equal, and its report with the relative
    Frobenius error of the weight.

    Linear layers and convolutions become a LoRA of the leading singular vectors of tuned - base, computed in float64: down
    (r, in, kh, kw), up (out, r, 1, 1), float32, alpha = rank. At full rank it reproduces the weight up to float32 rounding.
    Values are not clamped to a quantile, which would cost an exactly low-rank difference 11 %. Weights of one axis become a
    "norm", a bias a full `diff_b`. Raises AdapterError if the shapes differ or only one model has a bias, and for NaN and
    infinity.
    """
    weight = _difference(pair, "weight", pair.base, pair.tuned)
    bias = _bias(pair)
    changed_bias = bias is not None and bool(bias.any())
    empty = Change(component=pair.component, path=pair.path, kind="full", tensors={})
    if not bool(weight.any()) and not changed_bias:
        return None, ModuleReport(component=pair.component, path=pair.path, kind="unchanged", rank=0, rank_before=0,
                                  residual=0.0)
    if weight.ndim < 2:
        tensors = {"w_norm": weight, **({} if bias is None else {"b_norm": bias})}
        return _kept(empty, "norm", tensors)
    if not bool(weight.any()):
        assert bias is not None
        return _kept(empty, "full", {"diff_b": bias})
    product = nearest_to_matrix(weight.flatten(1), cut)
    change = lora_change(empty, product, tuple(weight.shape), bias if changed_bias else None)
    return change, report_of(change, min(weight.flatten(1).shape), product.residual)


def extract_adapter(pairs: Iterable[Pair], cut: Cut) -> Algebra:
    """The changes of all modules; `pairs` may be lazy, so that one pair is in memory at a time. Equal modules are reported
    as unchanged. Raises AdapterError if the models do not differ."""
    made, reports = {}, []
    for pair in pairs:
        change, report = extract(pair, cut)
        reports.append(report)
        if change is not None:
            made[pair.component, pair.path] = change
    if not made:
        raise AdapterError(f"the two models are equal in all {len(reports)} modules; there is nothing to extract")
    return Algebra(changes=made, modules=tuple(reports))


def _kept(empty: Change, kind: str, tensors: dict[str, Tensor]) -> tuple[Change, ModuleReport]:
    change = Change(component=empty.component, path=empty.path, kind=kind,
                    tensors={role: tensor.float() for role, tensor in tensors.items()})
    return change, report_of(change, 0, 0.0)


def _bias(pair: Pair) -> Tensor | None:
    if (pair.base_bias is None) != (pair.tuned_bias is None):
        which = "base" if pair.tuned_bias is None else "tuned"
        raise AdapterError(f"{pair.component} {pair.path}: only the {which} model has a bias; an adapter cannot add or remove it")
    if pair.base_bias is None or pair.tuned_bias is None:
        return None
    return _difference(pair, "bias", pair.base_bias, pair.tuned_bias)


def _difference(pair: Pair, name: str, base: Tensor, tuned: Tensor) -> Tensor:
    if base.shape != tuned.shape:
        raise AdapterError(f"{pair.component} {pair.path}: its {name} has shape {tuple(base.shape)} in the base and "
                           f"{tuple(tuned.shape)} in the tuned model, as in inpainting models; an adapter cannot change shapes")
    difference = tuned.double() - base.double()
    if not bool(difference.isfinite().all()):
        raise AdapterError(f"{pair.component} {pair.path}: the difference of its {name} contains NaN or infinity")
    return difference
