"""Linear layers on a CPU by oneDNN, where it gives the very bits of torch's own choice of library in less time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

LEAST_PRODUCTS: Final = 2 ** 21
"""Of numbers, in one call. Below it there is nothing to gain."""
MOST_VALUES: Final = 2 ** 26
"""In the input or the output of a call that is tried out: a quarter of a gibibyte."""
CACHED_VALUES: Final = 2 ** 21
"""Of the output, whose partial sums are added before the next rows are multiplied: eight mebibytes, which a cache may hold."""
_KNOWN_BLOCKS: Final = (192, 384)
"""Columns after which MKL begins another partial sum, on AMD's processors and on Intel's."""
_REPEATS: Final = 5
_TRIED_SECONDS: Final = 0.2
_GAIN: Final = 0.9
_ALIGNED: Final = 64


@contextmanager
def quick_linears(*modules: Any) -> Iterator[None]:
    """Within the block the plain linear layers of these modules use the faster library; their results are the same to the last
    bit. Left out are layers whose `forward` something else has taken, and modules that are not torch's or are compiled."""
    import torch

    taken: list[torch.nn.Linear] = []
    for module in modules:
        if not isinstance(module, torch.nn.Module) or hasattr(module, "_orig_mod"):
            continue
        taken += [layer for layer in module.modules() if type(layer) is torch.nn.Linear and "forward" not in vars(layer)]
    try:
        for layer in taken:
            vars(layer)["forward"] = quick(layer)
        yield
    finally:
        for layer in taken:
            vars(layer).pop("forward", None)


def quick(layer: torch.nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    """A linear layer's `forward` by the faster library."""
    import torch

    own, plain = torch.nn.functional.linear, (torch.Tensor, torch.nn.Parameter)
    parameters: dict[str, Any] = layer._parameters  # several times faster than the attributes, which modules look up in Python
    outputs, with_bias = layer.out_features, layer.bias is not None
    fewest = LEAST_PRODUCTS // outputs
    known: dict[tuple[torch.Size, int], int] = {}

    def forward(values: torch.Tensor) -> torch.Tensor:
        weight, bias = parameters["weight"], parameters["bias"]
        # Only calls as those that are tried out: plain float32 without gradients, contiguous, and placed in memory as new tensors
        # are, because MKL's bits may depend on it.
        if not (values.numel() >= fewest and type(values) in plain and type(weight) in plain
                and values.dtype == weight.dtype == torch.float32 and values.is_cpu and weight.is_cpu
                and torch.is_inference_mode_enabled() and values.is_contiguous() and weight.is_contiguous()
                and values.data_ptr() % _ALIGNED == weight.data_ptr() % _ALIGNED == 0):
            return own(values, weight, bias)
        asked = values.shape, torch.get_num_threads()  # another number may cut sums in other places
        columns = known.get(asked)
        if columns is None:
            columns = known[asked] = columns_at_once(tuple(values.shape), outputs, with_bias=with_bias, threads=asked[1])
        return multiplied(values, weight, bias, columns) if columns else own(values, weight, bias)

    return forward


@cache
def columns_at_once(shape: tuple[int, ...], outputs: int, *, with_bias: bool, threads: int) -> int:
    """How many columns of values of this shape (..., k) oneDNN is to multiply at once with a weight (outputs, k); 0 where torch's
    own choice is faster, or has other bits.

    Which library is faster depends on the processor: MKL uses half the width of an AMD processor's registers. Bits follow from
    the order of the sums. Both add products in the order of the columns, and MKL begins another partial sum after some of
    them. So both are tried on random numbers, once for each shape, and torch's is kept unless every bit is equal.
    """
    import torch

    assert threads == torch.get_num_threads()  # part of the question: sums may be cut by thread
    rows, columns = math.prod(shape[:-1]), shape[-1]
    if not _offered() or rows * max(columns, outputs) > MOST_VALUES:
        return 0
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(shape, generator=generator)
    weight = torch.randn((outputs, columns), generator=generator)
    bias = torch.randn(outputs, generator=generator) if with_bias else None
    own = partial(torch.nn.functional.linear, values, weight, bias)
    wanted = own()
    for part in dict.fromkeys((columns, *(block for block in (*_KNOWN_BLOCKS, -(-columns // 2)) if block < columns))):
        other = partial(multiplied, values, weight, bias, part)
        if torch.equal(other(), wanted):
            return part if _seconds(other) < _GAIN * _seconds(own) else 0
    return 0


def multiplied(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, columns: int) -> torch.Tensor:
    """The linear function of values (..., k) by oneDNN: the sum over parts of so many columns, in order; the bias is added to the
    first."""
    import torch

    product = torch.ops.mkldnn._linear_pointwise.default
    if columns >= values.shape[-1]:
        whole: torch.Tensor = product(values, weight, bias, "none", [], "")
        return whole
    # Copies: the operation is a thousand times slower on views.
    weights = [part.contiguous() for part in torch.split(weight, columns, dim=-1)]
    result = values.new_empty((*values.shape[:-1], len(weight)))
    at_once = max(1, CACHED_VALUES // len(weight))
    for some, sums in zip(torch.split(values.view(-1, values.shape[-1]), at_once),
                          torch.split(result.view(-1, len(weight)), at_once), strict=True):
        first, *others = [product(part.contiguous(), of_weight, None if number else bias, "none", [], "") for number, (
            part, of_weight) in enumerate(zip(torch.split(some, columns, dim=-1), weights, strict=True))]
        for part in others[:-1]:
            first += part
        torch.add(first, others[-1], out=sums)
    return result


def _offered() -> bool:
    import torch

    return torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _seconds(call: Callable[[], Any]) -> float:
    """The shortest of some runs: others may use the machine."""
    taken: list[float] = []
    while len(taken) < _REPEATS and sum(taken) < _TRIED_SECONDS:
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return min(taken)
