"""Expression trees: how one tensor of a recipe is computed from stored tensors, and the evaluation with a single rounding.
The live pipeline and the written file evaluate the same trees, so they agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from harness.merge.method import Call, MergeError, MergeMethod, key_seed

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_NAMES: Final = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
                 "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "BOOL": "bool", "U8": "uint8", "I8": "int8",
                 "I16": "int16", "U16": "uint16", "I32": "int32", "U32": "uint32", "I64": "int64", "U64": "uint64"}
_MOST_E4M3: Final = 464.0
"""The largest number that rounds to 448, the largest value of float8_e4m3fn."""
SMALL: Final = frozenset({"F16", "BF16", "F8_E4M3", "F8_E5M2"})


@dataclass(frozen=True, kw_only=True)
class Source:
    """A tensor of a model file. `model` is the file's name in the recipe; `dtype` is the dtype it is read as ("F16")."""

    model: str
    component: str
    key: str
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Merged:
    """A merge of tensors, in the order (A, B, more, C). `name` names the method. `channels` is set if A is wider than the
    others: only that many of its first input channels are merged, and the rest stay A's. Random draws depend on `seed`,
    `component` and `key`. Merges of one `group` are surveyed together."""

    name: str
    method: MergeMethod
    call: Call
    inputs: tuple[Expression, ...]
    channels: int = 0
    seed: int = 0
    component: str = ""
    key: str = ""
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Altered:
    """A tensor changed by something other than a merge, such as an adapter. `description` describes and identifies the change.
    `alter` takes the widened tensor and returns a new one."""

    input: Expression
    description: tuple[str | float, ...]
    alter: Callable[[Tensor], Tensor] = field(compare=False, repr=False)

    @property
    def inputs(self) -> tuple[Expression, ...]:
        """The expressions this one is computed from, as in Merged."""
        return (self.input,)


Expression: TypeAlias = Source | Merged | Altered


def sources(expression: Expression) -> Iterator[Source]:
    """Yields every tensor that the expression reads, left to right, with repetitions."""
    if isinstance(expression, Source):
        yield expression
    else:
        for part in expression.inputs:
            yield from sources(part)


def merges(expression: Expression) -> Iterator[Merged]:
    """Yields every merge within the expression, the outermost first."""
    if isinstance(expression, Merged):
        yield expression
    if not isinstance(expression, Source):
        for part in expression.inputs:
            yield from merges(part)


def altered(expression: Expression) -> bool:
    """Whether the expression contains anything other than merges and sources."""
    return isinstance(expression, Altered) or (isinstance(expression, Merged) and any(map(altered, expression.inputs)))


def simplified(merged: Merged) -> Expression:
    """Returns the input that the merge equals bit for bit at its alpha, if there is one, else the merge. Models that do not
    contribute are then not read."""
    ends = {0.0: merged.method.at_zero, 1.0: merged.method.at_one}
    place = {"a": 0, "b": 1, "c": len(merged.inputs) - 1}.get(ends.get(merged.call.alpha, ""), -1)
    if place < 0 or merged.method.alpha_range is None or (merged.channels and place != 0):
        return merged
    return merged.inputs[place]


def elementwise(expression: Expression) -> bool:
    """Whether each value of the result depends only on the input values at the same position."""
    return not altered(expression) and all(
        merged.method.elementwise and not merged.channels and not merged.group for merged in merges(expression))


def native(expression: Expression, dtype: str, precision: str) -> bool:
    """Whether the merge may be called on 16-bit tensors without widening: torch itself widens them and rounds once."""
    return (isinstance(expression, Merged) and expression.method.widens and precision == "auto" and not expression.channels
            and dtype in ("F16", "BF16")
            and all(isinstance(part, Source) and part.dtype == dtype for part in expression.inputs))


def evaluate(expression: Expression, read: Callable[[Source], Tensor], *, dtype: str, precision: str = "auto") -> Tensor:
    """The tensor of the expression, rounded once to `dtype` ("F16"). `read` returns the tensor of a source.

    Arithmetic is in float32 if all sources are stored in 16 or 8 bits and the result is too, or an adapter changes them;
    else in float64. With `precision` "fp64" it is always float64. Inner merges are not rounded. The result may be a tensor
    that `read` returned: do not change it in place.
    """
    import torch

    if isinstance(expression, Source):
        return read(expression) if expression.dtype == dtype else rounded(read(expression), torch_dtype(dtype))
    target = torch_dtype(dtype)
    with torch.no_grad():
        if isinstance(expression, Merged) and native(expression, dtype, precision):
            return expression.method.merge([read(s) for s in sources(expression)], expression.call)
        # Adapters are trained in float32 at best, so changes to 16-bit weights need no finer arithmetic.
        small = precision == "auto" and (dtype in SMALL or altered(expression)) and all(
            source.dtype in SMALL for source in sources(expression))
        return rounded(_value(expression, read, torch.float32 if small else torch.float64), target)


def rounded(tensor: Tensor, target: torch.dtype) -> Tensor:
    """The tensor in another dtype. What rounds to more than float8_e4m3fn can hold becomes NaN, as this dtype has no infinity
    and torch would store its largest value in silence."""
    import torch

    if target == torch.float8_e4m3fn and tensor.is_floating_point() and tensor.dtype != target:
        tensor = torch.where(tensor.abs() > _MOST_E4M3, torch.nan, tensor) if tensor.element_size() > 1 else rounded(
            tensor.float(), target)
    return tensor.to(target)


def _value(expression: Expression, read: Callable[[Source], Tensor], wide: torch.dtype) -> Tensor:
    if isinstance(expression, Source):
        return read(expression).to(wide)
    tensors = [_value(part, read, wide) for part in expression.inputs]
    if isinstance(expression, Altered):
        return expression.alter(tensors[0])
    count = expression.channels
    try:
        if not count:
            return expression.method.merge(tensors, expression.call, _generator(expression))
        merged = expression.method.merge([t[:, :count].contiguous() for t in tensors], expression.call, _generator(expression))
    except MergeError as error:
        raise MergeError(f"{expression.component}.{expression.key}: {error}") from error
    return torch_cat(merged, tensors[0][:, count:])


def torch_cat(first: Tensor, rest: Tensor) -> Tensor:
    """Concatenates input channels: (out, n, ...) and (out, m, ...) give (out, n + m, ...)."""
    import torch

    return torch.cat([first, rest], dim=1)


def torch_dtype(word: str) -> torch.dtype:
    """The torch dtype of a safetensors dtype name ("F16"). Raises KeyError for other names."""
    import torch

    return getattr(torch, _NAMES[word])  # type: ignore[no-any-return]  # the names are those of dtypes


def _generator(expression: Merged) -> torch.Generator | None:
    if not expression.method.random:
        return None
    import torch

    return torch.Generator().manual_seed(key_seed(expression.seed, expression.component, expression.key))
