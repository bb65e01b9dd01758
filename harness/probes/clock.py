"""A stopwatch for named phases that waits for the device before it reads the clock.

The harness puts one around text encoding, denoising and decoding of each timed round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds per phase. Phases may nest ("total" around the others); one entered again adds up.

    CUDA kernels run after their launch returns, so without the waits a phase is charged for the launch alone and the
    next phase for the work.
    """

    def __init__(self, device: str = "cpu", now: Callable[[], float] = time.perf_counter,
                 wait: Callable[[], None] | None = None) -> None:
        self._now = now
        self._wait = wait if wait is not None else device_wait(device)
        self._seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the seconds spent inside to `name`; a phase that raises is not counted."""
        self._wait()
        start = self._now()
        yield
        self._wait()
        self._seconds[name] = self._seconds.get(name, 0.0) + self._now() - start

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by phase so far, a copy."""
        return dict(self._seconds)

    def reset(self) -> None:
        """Forgets all phases, for the next round."""
        self._seconds.clear()


def device_wait(device: str) -> Callable[[], None]:
    """A function that returns when `device` has finished all work given to it; on the CPU there is none to wait for."""
    if not device.startswith("cuda"):
        return lambda: None
    import torch

    return lambda: torch.cuda.synchronize(device)
