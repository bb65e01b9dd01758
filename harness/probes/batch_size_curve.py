"""The batch-size curve: images per second and peak memory at 1, 2, 4, 8 ... until it stops paying.

It knows no models."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from harness.probes.fits import OutOfMemory, free_memory, out_of_memory
from harness.probes.memory import MemoryProbe
from harness.records import BatchPoint

LEAST_GAIN: Final = 1.05
"""Smallest ratio of images per second, at twice the batch size, that counts as a gain."""


@dataclass(frozen=True, kw_only=True)
class CurveLimits:
    """The latest end of a curve: at batches of `batch_size`, or before one that would exceed `budget_seconds`."""

    batch_size: int = 64
    budget_seconds: float = 120.0
    rounds: int = 3


def batch_curve(make: Callable[[int], None], probe: Callable[[], MemoryProbe], *, device: str = "cpu",
                limits: CurveLimits | None = None, wait: Callable[[], None] = lambda: None,
                now: Callable[[], float] = time.perf_counter) -> tuple[tuple[BatchPoint, ...], str, OutOfMemory | None]:
    """The points, why the curve ended, and the memory error if one ended it. `make(n)` makes a batch of n images.

    Every size gets one untimed batch under `probe()`, because a new shape costs more the first time, and then timed ones
    without it. What was cached before a size is released first, or it would count for its memory. `wait` returns when the device
    is idle. Raises what `make` raises, except out-of-memory errors.
    """
    limits = limits or CurveLimits()
    points: list[BatchPoint] = []
    started, size = now(), 1
    while True:
        refused: OutOfMemory | None = None
        try:
            free_memory(device)
            points.append(_point(make, size, probe(), limits.rounds, (wait, now)))
        except Exception as error:
            refused = out_of_memory(error, device)
            if refused is None:
                raise
        if refused is not None:
            free_memory(device)
            return tuple(points), f"a batch of {size} does not fit: {refused.message}", refused
        if why := _ended(points, limits, now() - started):
            return tuple(points), why, None
        size *= 2


def images_per_second(point: BatchPoint) -> float:
    """Images per second of the fastest timed batch, because a disturbance can only slow a batch down."""
    return point.batch_size / min(point.seconds)


def _point(make: Callable[[int], None], size: int, probe: MemoryProbe, rounds: int,
           clock: tuple[Callable[[], None], Callable[[], float]]) -> BatchPoint:
    wait, now = clock
    with probe:
        make(size)
        wait()
    seconds = []
    for _ in range(rounds):
        start = now()
        make(size)
        wait()
        seconds.append(now() - start)
    return BatchPoint(batch_size=size, seconds=tuple(seconds), readings=probe.readings())


def _ended(points: list[BatchPoint], limits: CurveLimits, elapsed_seconds: float) -> str:
    last = points[-1]
    if last.batch_size * 2 > limits.batch_size:
        return f"the limit of {limits.batch_size} images per batch was reached"
    if len(points) > 1:
        best = max(points[:-1], key=images_per_second)
        if (gain := images_per_second(last) / images_per_second(best)) < LEAST_GAIN:
            return (f"no more gain: a batch of {last.batch_size} makes {gain:.2f} times the images per second "
                    f"of a batch of {best.batch_size}")
    if elapsed_seconds + 2 * (limits.rounds + 1) * max(last.seconds) > limits.budget_seconds:
        return f"a batch of {2 * last.batch_size} would exceed the budget of {limits.budget_seconds:g} s"
    return ""
