"""Sums of adapters: exact by joining ranks, or cut to a rank from the joined factors.

Deltas are summed, never factors: averaging up and down separately gives another matrix (kohya's merge_lora, PEFT's
"linear")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from harness.adapters.algebra.low_rank import Cut, LowRank, nearest_to_matrix, nearest_to_product, stacked
from harness.adapters.algebra.report import Algebra, report_of
from harness.adapters.change import Change, Shapes
from harness.adapters.kinds import bias_delta, check_change, is_additive, kind_of, plain_delta
from harness.adapters.kinds.kind import Shape, ones
from harness.adapters.kinds.lora import low_rank
from harness.adapters.live_plan import AdapterError

if TYPE_CHECKING:
    from torch import Tensor

Parts = Sequence[tuple[Change, float]]
_ROUNDING: Final = 1e-6
"""The share of two opposite float32 changes that may be left of their sum."""


def combine(parts: Parts, shape: Shape, cut: Cut | None = None) -> tuple[Change, float]:
    """The sum of all (change, strength) of one module as one change, and its relative Frobenius error.

    Without a cut it is exact: low-rank parts become a LoRA whose rank is the sum of the ranks, [s1 U1, s2 U2] and [D1; D2]
    with strengths, signs and scales multiplied in, alpha = rank; norms stay norms; anything else becomes a full difference.
    With a cut it is the LoRA nearest to the sum, computed from the joined factors if all are low-rank. Bias changes are
    never cut. float32. Raises AdapterError for changes that depend on the weight (DoRA, OFT ...) or do not fit its shape.
    """
    for change, _ in parts:
        _refuse(change, parts[0][0])
        check_change(change, shape)
    biases = _bias_sum(parts)
    if all(change.kind == "norm" for change, _ in parts):
        return _norm(parts, shape, biases), 0.0
    if all(change.kind == "lora" for change, _ in parts):
        up, down = stacked([(weight * change.scale, *low_rank(change)) for change, weight in parts])
        product = LowRank(up=up, down=down, residual=0.0) if cut is None else nearest_to_product(up, down, cut)
    elif cut is None or len(shape) < 2 or not any(_changes_weight(change) for change, _ in parts):
        return _whole(parts, shape, biases), 0.0
    else:
        product = nearest_to_matrix(dense_sum(parts, shape).flatten(1), cut)
    return lora_change(parts[0][0], product, shape, biases), product.residual


def combine_adapters(adapters: Sequence[tuple[Mapping[tuple[str, str], Change], float]], shapes: Shapes,
                     cut: Cut | None = None) -> Algebra:
    """The sum of all (changes, strength), module by module as in `combine`; adapters of strength 0 are left out. `shapes`
    are those of the model's weights. Raises AdapterError for a module that the model does not have."""
    gathered = _gathered(adapters)
    if not gathered:
        raise AdapterError("nothing to combine: no adapter has both changes and a strength other than 0")
    made, reports = {}, []
    for key, parts in gathered.items():
        made[key], residual = combine(parts, shape_of(parts[0][0], shapes), cut)
        reports.append(report_of(made[key], sum(kind_of(change).rank(change.tensors) for change, _ in parts), residual))
    return Algebra(changes=made, modules=tuple(reports))


def add_nothing(adapters: Sequence[tuple[Mapping[tuple[str, str], Change], float]], shapes: Shapes) -> bool:
    """Whether the sum of all (changes, strength) is 0 in every module, up to rounding: adapters of zeros, or opposite strengths.
    The first module with a change ends the search."""
    return not any(_adds(parts, shape_of(parts[0][0], shapes)) for parts in _gathered(adapters).values())


def _adds(parts: Parts, shape: Shape) -> bool:
    """Whether the sum for a module is larger than what rounding leaves of its terms."""
    biases = [delta * weight for change, weight in parts if (delta := bias_delta(change)) is not None]
    weighed = [part for part in parts if _changes_weight(part[0])]
    terms = [float(dense_sum([part], shape).norm()) for part in weighed]
    return (bool(terms) and float(dense_sum(weighed, shape).norm()) > _ROUNDING * max(terms)) or (
        bool(biases) and float(sum(biases[1:], biases[0]).norm()) > _ROUNDING * max(float(delta.norm()) for delta in biases))


def _gathered(adapters: Sequence[tuple[Mapping[tuple[str, str], Change], float]]) -> dict[tuple[str, str], list[
        tuple[Change, float]]]:
    gathered: dict[tuple[str, str], list[tuple[Change, float]]] = {}
    for changes, weight in adapters:
        for key, change in changes.items():
            if weight != 0:
                gathered.setdefault(key, []).append((change, weight))
    return gathered


def resize(change: Change, shape: Shape, cut: Cut) -> tuple[Change, float]:
    """The change cut to its largest singular values, which are unchanged, and the relative Frobenius error; a norm is not
    cut.

    Any additive kind becomes a LoRA. Raises AdapterError for a DoRA, because the effect of a cut depends on the weight."""
    return combine([(change, 1.0)], shape, cut)


def dense_sum(parts: Parts, shape: Shape) -> Tensor:
    """The sum of strength * delta of additive changes, in float64 and the weight's shape."""
    import torch

    total = torch.zeros(shape, dtype=torch.float64)
    for change, weight in parts:
        total += plain_delta(change, total) * weight
    return total


def lora_change(like: Change, product: LowRank, shape: Shape, bias: Tensor | None) -> Change:
    """A float32 LoRA of scale 1 and alpha = rank for the module of `like`: down (r, in, kh, kw), up (out, r, 1, 1), and
    diff_b if `bias` is given."""
    rank = int(product.down.shape[0])
    tensors = {"down": product.down.reshape(rank, *shape[1:]), "up": product.up.reshape(shape[0], rank, *ones(shape))}
    return _made(like, "lora", tensors, bias, rank)


def shape_of(change: Change, shapes: Shapes) -> Shape:
    """The shape of the weight that a change is for. Raises AdapterError if the model has no such module."""
    try:
        return tuple(shapes[change.component][change.path])
    except KeyError:
        raise AdapterError(f"{change.component} {change.path}: the model has no such module") from None


def _changes_weight(change: Change) -> bool:
    return change.kind != "full" or "diff" in change.tensors


def _whole(parts: Parts, shape: Shape, bias: Tensor | None) -> Change:
    whole = {"diff": dense_sum(parts, shape)} if any(_changes_weight(change) for change, _ in parts) else {}
    return _made(parts[0][0], "full", whole, bias, 0)


def _norm(parts: Parts, shape: Shape, bias: Tensor | None) -> Change:
    summed = _made(parts[0][0], "norm", {"w_norm": dense_sum(parts, shape)}, None, 0)
    return summed if bias is None else replace(summed, tensors={**summed.tensors, "b_norm": bias.float()})


def _made(like: Change, kind: str, tensors: Mapping[str, Tensor], bias: Tensor | None, rank: int) -> Change:
    all_tensors = dict(tensors) if bias is None else {**tensors, "diff_b": bias}
    return Change(component=like.component, path=like.path, kind=kind, rank=rank, alpha=float(rank) if rank else None,
                  tensors={role: tensor.float().contiguous() for role, tensor in all_tensors.items()})


def _bias_sum(parts: Parts) -> Tensor | None:
    bias_deltas = [given * weight for change, weight in parts if (given := bias_delta(change)) is not None]
    return sum(bias_deltas[1:], bias_deltas[0]) if bias_deltas else None


def _refuse(change: Change, first: Change) -> None:
    if (change.component, change.path) != (first.component, first.path):
        raise AdapterError(f"{change.component} {change.path} and {first.component} {first.path} are different modules; "
                           "combine sums changes of one module")
    if not is_additive(change):
        kind = "DoRA" if change.magnitude is not None else change.kind
        raise AdapterError(f"{change.component} {change.path}: a {kind} depends on the weight it changes, so it cannot be "
                           "summed or resized without a model; merge it into the model and extract the difference")
