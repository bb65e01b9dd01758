"""Carries merges out on tensors in memory: one tensor by its method, or many expressions into live parameters."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from harness.merge.expression import Expression, Merged, Source, elementwise, evaluate, native
from harness.merge.method import Call, MergeError, MergeMethod

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CHUNK: Final = 2 ** 18
"""Values merged at a time on a CPU: what is read, made and written of so many stays in the cache of one core."""
NATIVE_CHUNK: Final = 2 ** 22
"""The same for 16-bit values merged as they are, where there is so little to do for each that the calls would cost more."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A live tensor and what is to stand in it: the expression, rounded to `dtype` ("F16") as a saved file would hold it."""

    key: str
    expression: Expression
    dtype: str
    live: Tensor


def merge_tensor(method: MergeMethod, call: Call, tensors: Sequence[Tensor], *, dtype: torch.dtype | None = None,
                 precision: str = "auto", generator: torch.Generator | None = None) -> Tensor:
    """The merge of one key's tensors (one shape, floating dtypes, one device), rounded once to `dtype`, else the first
    one's dtype. `tensors` are in the order (A, B, more, C).

    Arithmetic is one format wider than what is stored: float32 for 16 and 8 bits, float64 for float32; with `precision`
    "fp64" it is float64 always. The result is a tensor of its own.
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
        merged = method.merge([t.detach().to(wide) for t in tensors], call, generator).to(target)
        return merged.clone() if any(merged.data_ptr() == t.data_ptr() for t in tensors) else merged


def write_live(targets: Sequence[Target], read: Callable[[Source], Tensor], precision: str = "auto") -> None:
    """Writes every target's expression into its live tensor, without making new parameters.

    `read` gives a source's tensor on the device of the live ones, in its stored dtype and canonical shape. Raises
    MergeError for a result that is not finite; what was written until then is to be thrown away. On a CPU the work is
    cut into chunks for one thread per core; the bits do not depend on how.
    """
    def do(task: _Task) -> str:
        merged, live = task.made(read, precision), task.place
        # A weighted sum lies between its inputs, and a copy is what it was: neither overflows.
        if task.quick or isinstance(task.target.expression, Source) or finite(merged):
            live.copy_(merged)
            return ""
        return task.target.key

    import torch

    with torch.no_grad():
        if targets and targets[0].live.device.type == "cpu":
            bad = _on_all_cores(do, [task for target in targets for task in _tasks(target, precision)])
        else:
            bad = [key for target in targets for task in _tasks(target, precision) if (key := do(task))]
    if bad:
        keys = tuple(dict.fromkeys(bad))
        raise MergeError(f"{len(keys)} keys overflow the dtype they are stored in: {', '.join(map(repr, keys[:5]))}"
                         f"{' ...' if len(keys) > 5 else ''}. Use a smaller alpha or models stored as F32.", keys)


def finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite. A NaN anywhere makes both ends of the range NaN; looking at these is 20 times
    faster than isfinite on each value.

    float8 tensors have no range in torch; float16 holds every value of theirs.
    """
    import torch

    if tensor.numel() == 0 or not tensor.is_floating_point():
        return True
    ends = torch.aminmax(tensor.detach().to(torch.float16) if tensor.element_size() == 1 else tensor.detach())
    return bool(torch.isfinite(ends.min) & torch.isfinite(ends.max))


@dataclass(frozen=True, kw_only=True)
class _Task:
    """Some values of one target: from `start` to `stop`, or all of them where `stop` is negative."""

    target: Target
    quick: bool
    place: Tensor
    start: int
    stop: int

    def made(self, read: Callable[[Source], Tensor], precision: str) -> Tensor:
        """The values, in the dtype they are stored in."""
        expression = self.target.expression
        if self.stop < 0:
            return evaluate(expression, read, dtype=self.target.dtype, precision=precision)
        if self.quick and isinstance(expression, Merged):
            cut = [read(part).reshape(-1)[self.start:self.stop] for part in expression.inputs if isinstance(part, Source)]
            return expression.method.merge(cut, expression.call)
        return evaluate(expression, lambda source: read(source).reshape(-1)[self.start:self.stop], dtype=self.target.dtype,
                        precision=precision)


def _tasks(target: Target, precision: str) -> Iterator[_Task]:
    """One task for what must be whole and on a GPU, else as many as fit the cache."""
    live, count = target.live.detach(), target.live.numel()
    quick = native(target.expression, target.dtype, precision)
    if live.device.type != "cpu" or not live.is_contiguous() or not elementwise(target.expression):
        yield _Task(target=target, quick=quick, place=live, start=0, stop=-1)
        return
    flat, step = live.reshape(-1), NATIVE_CHUNK if quick else CHUNK
    for start in range(0, count, step):
        stop = min(start + step, count)
        yield _Task(target=target, quick=quick, place=flat[start:stop], start=start, stop=stop)


def _on_all_cores(do: Callable[[_Task], str], tasks: list[_Task]) -> list[str]:
    """What `do` said of the tasks, the largest first, on one thread per core; each takes the next task when it is free."""
    import torch

    waiting = iter(sorted(tasks, key=lambda task: -task.place.numel()))
    lock = threading.Lock()

    def work() -> list[str]:
        results: list[str] = []
        while True:
            with lock:
                task = next(waiting, None)
            if task is None:
                return results
            results.append(do(task))

    with ThreadPoolExecutor(_cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        working = [pool.submit(work) for _ in range(_cores())]
        return [key for results in working for key in results.result() if key]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
