"""The driver of a simulated GPU: what NVML says of it, with a CUDA context and a desktop."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Final

import pytest
import torch

from harness.probes import idle_before_use
from tests.probes.fakes import FakeNvml
from tests.rehearsal.gpu import Gpu
from tests.rehearsal.simulated_cuda import simulated

MIB: Final = 2 ** 20
SIMULATED_UUID: Final = "00000000-0000-0000-0000-000000000000"
DESKTOP_BYTES: Final = 900 * MIB
CONTEXT_BYTES: Final = 400 * MIB


class Driver(FakeNvml):
    """Beside this process's allocator, and its context once it has computed anything, there is a desktop. `lists_processes` is
    False in a container with process ids of its own."""

    def __init__(self, gpu: Gpu, *, lists_processes: bool = True) -> None:
        super().__init__(used={SIMULATED_UUID: 0})
        self._gpu, self._pid = gpu, os.getpid() if lists_processes else 1

    def nvmlDeviceGetMemoryInfo(self, handle: str, version: int | None = None) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(used=DESKTOP_BYTES + self._own_bytes, reserved=600 * MIB)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[SimpleNamespace]:  # noqa: N802 - the binding's name
        return [SimpleNamespace(pid=self._pid, usedGpuMemory=self._own_bytes)] if self.has_context else []

    @property
    def has_context(self) -> bool:
        """Whether this process used the GPU."""
        return bool(self._gpu.operations or self._gpu.reserved)

    @property
    def _own_bytes(self) -> int:
        return CONTEXT_BYTES + self._gpu.reserved if self.has_context else 0


@contextmanager
def with_driver(*, lists_processes: bool = True, shapes_only: bool = False) -> Iterator[Gpu]:
    """A simulated GPU with a driver."""
    with simulated(shapes_only=shapes_only) as gpu, pytest.MonkeyPatch.context() as patch:
        driver = Driver(gpu, lists_processes=lists_processes)
        patch.setitem(sys.modules, "pynvml", driver)
        patch.setattr(torch.cuda, "is_initialized", lambda: driver.has_context)
        idle_before_use.cache_clear()
        yield gpu
    idle_before_use.cache_clear()
