"""A stopwatch for named phases: the host's clock on a CPU, CUDA events on a GPU, and both on one time axis.

It times text encoding, denoising and decoding of each timed round, and loads and switches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from harness.records import Span

Made = TypeVar("Made")


class Timer(Protocol):
    """The source of a stopwatch's times. A mark is whatever the timer needs to compute the time between two moments."""

    def mark(self) -> Any:
        """This moment, after all work given to the device so far."""
        ...

    def seconds(self, start: Any, end: Any) -> float:
        """Seconds between two marks; called only after `wait`."""
        ...

    def wait(self) -> None:
        """Returns once all marks are in the past."""
        ...


class HostTimer:
    """Waits for the device and reads the host's clock. Without the wait, a phase would be charged for launching the work, and the
    next phase for the work itself."""

    def __init__(self, now: Callable[[], float], wait: Callable[[], None]) -> None:
        self._now, self.wait = now, wait

    def mark(self) -> float:
        """The host's clock, once the device is idle."""
        self.wait()
        return self._now()

    def seconds(self, start: float, end: float) -> float:
        """Their difference."""
        return end - start


class CudaTimer:
    """Events in the device's current stream. They need no wait, so launching runs ahead of the device as it does for a user, and
    single denoising steps can be timed without slowing them down."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.wait = device_wait(device)

    def mark(self) -> Any:
        """An event behind all work queued so far."""
        import torch

        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def seconds(self, start: Any, end: Any) -> float:
        """Seconds between them on the device's own clock, including its idle time; resolution about 0.5 microseconds."""
        return float(start.elapsed_time(end)) / 1000


class Stopwatch:
    """Seconds per phase. Phases may nest ("total" around the others); one entered again adds up.

    `spans` gives every pass separately, on the clock of `now`, which is also the sampler's clock.
    """

    def __init__(self, device: str = "cpu", now: Callable[[], float] = time.perf_counter,
                 wait: Callable[[], None] | None = None, timer: Timer | None = None) -> None:
        self._now = now
        cuda = device.startswith("cuda") and wait is None
        self._timer: Timer = timer or (CudaTimer(device) if cuda else HostTimer(now, wait or device_wait(device)))
        self._origin: tuple[float, Any] | None = None
        self._passed: list[tuple[str, Any, Any]] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the time spent inside to `name`; a phase that raises is not counted."""
        start = self._begin()
        yield
        self._passed.append((name, start, self._timer.mark()))

    def laps(self, name: str) -> Callable[[], None]:
        """A function to call after each step. Every call ends one pass of `name`, which began at the call before (or here)."""
        last = self._begin()

        def lap() -> None:
            nonlocal last
            ended = self._timer.mark()
            self._passed.append((name, last, ended))
            last = ended

        return lap

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by phase so far, a copy."""
        totals: dict[str, float] = {}
        self._timer.wait()
        for name, start, end in self._passed:
            totals[name] = totals.get(name, 0.0) + self._timer.seconds(start, end)
        return totals

    @property
    def spans(self) -> tuple[Span, ...]:
        """Every pass, in the order in which they ended, in seconds on the clock of `now`."""
        if self._origin is None:
            return ()
        host, first = self._origin
        self._timer.wait()
        return tuple(Span(phase=name, start_seconds=host + self._timer.seconds(first, start),
                          end_seconds=host + self._timer.seconds(first, end)) for name, start, end in self._passed)

    def reset(self) -> None:
        """Forgets all phases, for the next round."""
        self._passed.clear()
        self._origin = None

    def _begin(self) -> Any:
        if self._origin is not None:
            return self._timer.mark()
        self._timer.wait()  # nothing is queued before this mark, so both clocks are read at the same moment
        mark = self._timer.mark()
        self._origin = self._now(), mark
        return mark


def timed(call: Callable[[], Made], device: str = "cpu", now: Callable[[], float] = time.perf_counter) -> tuple[Made, float]:
    """The result of `call`, and the seconds until the device was idle again: for loads and switches, where the host does most of
    the work."""
    wait = device_wait(device)
    wait()
    start = now()
    result = call()
    wait()
    return result, now() - start


def device_wait(device: str) -> Callable[[], None]:
    """A function that returns when `device` has finished all its work; on the CPU there is nothing to wait for."""
    if not device.startswith("cuda"):
        return lambda: None
    import torch

    return lambda: torch.cuda.synchronize(device)
