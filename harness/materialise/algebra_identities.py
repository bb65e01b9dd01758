"""Identities of the merge of one tensor: the ends of alpha, equal models, exchanged models, and float64."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from harness.merge import Expression, Merged, Source, evaluate, sources
from harness.merge.expression import SMALL, torch_dtype
from harness.weights.write import bytes_of

if TYPE_CHECKING:
    from torch import Tensor

EQUAL_MODELS: Final = "A with A is A"
EXCHANGED: Final = "B with A at 1 - alpha is the same"
FLOAT64: Final = "float64 within one unit in the last place"
_CANCELLED: Final = 2.0 ** -20
"""Share of the largest input value that cancellation may lose: eight units of float32."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One identity on one tensor: whether it holds, and the distance between its two sides in units in the last place of the
    stored dtype. Neither follows from the other: float64 may differ by one unit, and a negative zero differs from a positive
    one at distance 0."""

    identity: str
    holds: bool
    ulps: float


def at_end(alpha: float, model: str) -> str:
    """The name of an identity: "alpha=0 is A"."""
    return f"alpha={alpha:g} is {model.upper()}"


def identities_of_tensor(
        expression: Expression, tensors: Mapping[Source, Tensor], dtype: str, precision: str, made: Tensor) -> Iterator[Tried]:
    """Yields every identity that applies to this expression. `made` is its value in `precision`.

    `tensors` are the inputs as stored. The ends of alpha and equal models must agree to the bit, exchanged models and float64
    to one unit in the last place of `dtype`.
    """
    import torch

    if isinstance(expression, Merged):
        whole = _as_whole(expression, dtype, precision)
        for identity, one, other in _exact(expression):
            result, promised = (evaluate(e, tensors.__getitem__, dtype=dtype, precision=whole) for e in (one, other))
            holds = same_values(result, promised)
            # No tolerance: equal bits are promised.
            yield Tried(identity=identity, holds=holds,
                        ulps=0.0 if holds else ulps_apart(result, promised, dtype, [torch.zeros(1)]))
        if expression.method.symmetric and not expression.channels:
            exchanged = replace(expression, inputs=expression.inputs[::-1],
                                call=replace(expression.call, alpha=1 - expression.call.alpha))
            again = evaluate(exchanged, tensors.__getitem__, dtype=dtype, precision=precision)
            yield _within_one_unit(EXCHANGED, ulps_apart(made, again, dtype, tensors.values()))
    exact = evaluate(expression, tensors.__getitem__, dtype=dtype, precision="fp64")
    yield _within_one_unit(FLOAT64, ulps_apart(made, exact, dtype, tensors.values()))


def ulps_apart(made: Tensor, exact: Tensor, dtype: str, read: Iterable[Tensor]) -> float:
    """The largest distance between two tensors in units in the last place of `dtype`. The error that float32 leaves when
    large terms cancel is subtracted first, because it is many units of a much smaller bfloat16 result."""
    import torch

    if made.numel() == 0 or same_values(made, exact):
        return 0.0
    one, two = made.double(), exact.double()
    kind = torch.finfo(torch_dtype(dtype))
    largest = torch.maximum(one.abs(), two.abs()).clamp_min(kind.smallest_normal)
    unit = torch.pow(2.0, torch.floor(torch.log2(largest))) * kind.eps
    rounding = _CANCELLED * max(float(tensor.double().abs().max()) for tensor in read)
    return float((((one - two).abs() - rounding).clamp_min(0) / unit).max())


def same_values(one: Tensor, two: Tensor) -> bool:
    """Whether two tensors have the same dtype, shape and bits: a negative zero differs from a positive one."""
    return one.dtype == two.dtype and one.shape == two.shape and bytes_of(one) == bytes_of(two)


def _within_one_unit(identity: str, ulps: float) -> Tried:
    return Tried(identity=identity, holds=ulps <= 1, ulps=ulps)


def _exact(merged: Merged) -> Iterator[tuple[str, Expression, Expression]]:
    """Yields (identity, expression, the expression that must have the same bits)."""
    row = merged.method
    places = {"a": 0, "b": 1, "c": len(merged.inputs) - 1}
    for alpha, end in ((0.0, row.at_zero), (1.0, row.at_one)):
        # Of a wider A only some input channels are merged, so no alpha gives B.
        if end and row.alpha_range is not None and (end == "a" or not merged.channels):
            yield at_end(alpha, end), replace(merged, call=replace(merged.call, alpha=alpha)), merged.inputs[places[end]]
    yield EQUAL_MODELS, replace(merged, inputs=(merged.inputs[0],) * len(merged.inputs)), merged.inputs[0]


def _as_whole(expression: Expression, dtype: str, precision: str) -> str:
    """The precision of the whole expression, for parts of it that alone would be computed in float32."""
    return precision if dtype in SMALL and all(source.dtype in SMALL for source in sources(expression)) else "fp64"
