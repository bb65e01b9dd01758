"""Runs merges on tensors in memory: one tensor by its method, or many expressions into live parameters."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from harness.declare.listing import first_of
from harness.merge.expression import Expression, Merged, Source, elementwise, evaluate, native, rounded
from harness.merge.method import Call, MergeError, MergeMethod
from harness.records.format_range import FormatRangeError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CHUNK: Final = 2 ** 18
"""Values per chunk on a CPU: inputs, intermediates and output of one chunk fit the cache of one core."""
NATIVE_CHUNK: Final = 2 ** 22
"""The same for 16-bit values that are merged without widening: they cost so little that small chunks would pay mostly for
the calls."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A live tensor and the expression to write into it, rounded to `dtype` ("F16") as in a saved file."""

    key: str
    expression: Expression
    dtype: str
    live: Tensor


def merge_tensor(method: MergeMethod, call: Call, tensors: Sequence[Tensor], *, dtype: torch.dtype | None = None,
                 precision: str = "auto", generator: torch.Generator | None = None) -> Tensor:
    """The merge of one key's tensors, rounded once to `dtype`, by default the dtype of the first. `tensors` are in the order
    (A, B, more, C) and have one shape, floating dtypes and one device.

    Arithmetic is one format wider than the stored values: float32 for 16 and 8 bits, float64 for float32. With `precision`
    "fp64" it is always float64. The result shares no memory with an input.
    """
    import torch

    target = dtype or tensors[0].dtype
    with torch.no_grad():
        dtypes = {t.dtype for t in tensors}
        if method.widens and precision == "auto" and target in dtypes and dtypes in ({torch.float16}, {torch.bfloat16}):
            wide = target
        else:
            small = precision == "auto" and all(dtype.itemsize <= 2 for dtype in (*dtypes, target))
            wide = torch.float32 if small else torch.float64
        merged = rounded(method.merge([t.detach().to(wide) for t in tensors], call, generator), target)
        return merged.clone() if any(merged.data_ptr() == t.data_ptr() for t in tensors) else merged


def write_live(targets: Sequence[Target], read: Callable[[Source], Tensor], precision: str = "auto") -> None:
    """Writes every target's expression into its live tensor. The parameters stay the same objects.

    `read` returns a source's tensor on the device of the live tensors, in its stored dtype and canonical shape. Raises
    MergeError for results that are not finite, and FormatRangeError for those that float16 live tensors cannot hold; the live
    tensors are then unusable. On a CPU the work is cut into chunks for
    one thread per core. The bits do not depend on the chunks.
    """
    import torch

    merged_checks, live_checks = list[_Check](), list[_Check]()

    def do(task: _Task) -> None:
        key, merged, live = task.target.key, task.made(read, precision), task.place
        # Neither can overflow: a weighted sum lies between its inputs, and a copy in the same dtype changes nothing.
        same = isinstance(task.target.expression, Source) and task.target.expression.dtype == task.target.dtype
        if not (task.quick or same):
            merged_checks.append((key, all_finite(merged)))
        live.copy_(merged)
        if live.dtype == torch.float16 != merged.dtype:
            live_checks.append((key, all_finite(live)))

    with torch.no_grad():
        if targets and targets[0].live.device.type == "cpu":
            _on_all_cores(do, [task for target in targets for task in _tasks(target, precision)])
        else:
            for target in targets:
                for task in _tasks(target, precision):
                    do(task)
    # Asked at the end, all at once: a GPU is waited for at each answer.
    if keys := _not_finite(merged_checks):
        raise MergeError(f"{len(keys)} keys overflow the dtype they are stored in: {first_of([*map(repr, keys)], 5)}. Use a "
                         "smaller alpha or models stored as F32.", keys)
    if keys := _not_finite(live_checks):
        raise FormatRangeError(f"{len(keys)} keys hold values beyond the range of fp16, in which this candidate runs: "
                               f"{first_of([*map(repr, keys)], 5)}. Declare precision='bf16' or 'fp32' for it.")


_Check: TypeAlias = "tuple[str, Tensor]"
"""A key, and whether its values are finite."""


def _not_finite(checks: Sequence[_Check]) -> tuple[str, ...]:
    """The keys whose values are not finite."""
    import torch

    answers = torch.stack([sound for _, sound in checks]).tolist() if checks else []
    return tuple(dict.fromkeys(key for (key, _), sound in zip(checks, answers, strict=True) if not sound))


def finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite. The host waits for a GPU's answer."""
    return bool(all_finite(tensor))


def all_finite(tensor: Tensor) -> Tensor:
    """Whether no value is NaN or infinite, as a tensor beside it. One NaN makes both the minimum and the maximum NaN. Testing
    these two is 20 times faster than isfinite on every value.

    torch has no aminmax for float8. float16 holds every float8 value, so such tensors are converted first.
    """
    import torch

    if tensor.numel() == 0 or not tensor.is_floating_point():
        return torch.ones((), dtype=torch.bool, device=tensor.device)
    ends = torch.aminmax(tensor.detach().to(torch.float16) if tensor.element_size() == 1 else tensor.detach())
    return torch.isfinite(ends.min) & torch.isfinite(ends.max)


@dataclass(frozen=True, kw_only=True)
class _Task:
    """Some values of one target: from `start` to `stop`, or all of them if `stop` is negative."""

    target: Target
    quick: bool
    place: Tensor
    start: int
    stop: int

    def made(self, read: Callable[[Source], Tensor], precision: str) -> Tensor:
        """Returns the values in the dtype they are stored in."""
        expression = self.target.expression
        if self.stop < 0:
            return evaluate(expression, read, dtype=self.target.dtype, precision=precision)
        if self.quick and isinstance(expression, Merged):
            cut = [read(part).reshape(-1)[self.start:self.stop] for part in expression.inputs if isinstance(part, Source)]
            return expression.method.merge(cut, expression.call)
        return evaluate(expression, lambda source: read(source).reshape(-1)[self.start:self.stop], dtype=self.target.dtype,
                        precision=precision)


def _tasks(target: Target, precision: str) -> Iterator[_Task]:
    """Yields one task on a GPU or for a tensor that must stay whole; otherwise one task per chunk."""
    live, count = target.live.detach(), target.live.numel()
    quick = native(target.expression, target.dtype, precision)
    if live.device.type != "cpu" or not live.is_contiguous() or not elementwise(target.expression):
        yield _Task(target=target, quick=quick, place=live, start=0, stop=-1)
        return
    flat, step = live.reshape(-1), NATIVE_CHUNK if quick else CHUNK
    for start in range(0, count, step):
        stop = min(start + step, count)
        yield _Task(target=target, quick=quick, place=flat[start:stop], start=start, stop=stop)


def _on_all_cores(do: Callable[[_Task], None], tasks: list[_Task]) -> None:
    """Runs `do` on the tasks, the largest first, on one thread per core."""
    import torch

    waiting = iter(sorted(tasks, key=lambda task: -task.place.numel()))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                task = next(waiting, None)
            if task is None:
                return
            do(task)

    with ThreadPoolExecutor(_cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for working in [pool.submit(work) for _ in range(_cores())]:
            working.result()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
