"""A scripted GPU, a clock turned by hand, and a driver of any kind behind NVML's binding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from harness.probes import NotMeasuredError

UUID = "8a5f0c1e-0000-1111-2222-333344445555"
OTHER_UUID = "9b6f1d2f-0000-1111-2222-333344445555"


class FakeClock:
    """Moves only when told, or by `step` with every reading."""

    def __init__(self, step: float = 0.0) -> None:
        self.time, self.step = 0.0, step

    def __call__(self) -> float:
        self.time += self.step
        return self.time


class FakeGpu:
    """Every figure is what the script says: a number, or a list that is worked off to its last; a string is the reason why
    there is none."""

    name, uuid, driver = "fake", "GPU-0", "1"

    def __init__(self, **script: object) -> None:
        self.script: dict[str, object] = {"used": 100, "process": 50, "reserved": 7, "energy": 0, "sm": 1500, "memory": 2600,
                                          "celsius": 40, "limits": 0, **script}

    def _next(self, figure: str) -> int:
        value = self.script[figure]
        if isinstance(value, list):
            value = value.pop(0) if len(value) > 1 else value[0]
        if isinstance(value, str):
            raise NotMeasuredError(value)
        assert isinstance(value, int)
        return value

    def device_used_bytes(self) -> int:
        return self._next("used")

    def process_used_bytes(self) -> int:
        return self._next("process")

    def reserved_bytes(self) -> int:
        return self._next("reserved")

    def energy_millijoules(self) -> int:
        return self._next("energy")

    def sm_clock_mhz(self) -> int:
        return self._next("sm")

    def memory_clock_mhz(self) -> int:
        return self._next("memory")

    def temperature_celsius(self) -> int:
        return self._next("celsius")

    def clock_limits(self) -> int:
        return self._next("limits")


class FakeError(Exception):
    """NVML's error."""


class FakeLibraryNotFoundError(FakeError):
    """NVML's error where there is no driver."""


class FakeNvml:
    """NVML's binding. `used` are the bytes in use by the UUID of each card, `instances` by the UUID of each instance of a
    partitioned one (MIG); `compute` and `graphics` list (process id, bytes). A query whose name ends with one of `refuses` is not
    supported."""

    NVMLError, NVMLError_LibraryNotFound = FakeError, FakeLibraryNotFoundError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU, nvmlMemory_v2 = 1, 2, 0, 0x02000028  # noqa: N815 - the binding's name

    def __init__(self, *, used: Mapping[str, int] | None = None, instances: Mapping[str, int] | None = None,
                 compute: Sequence[tuple[int, int | None]] = (), graphics: Sequence[tuple[int, int | None]] = (),
                 mig: int | None = None, installed: bool = True, refuses: Sequence[str] = ()) -> None:
        self.used, self.instances = dict({UUID: 7_000} if used is None else used), dict(instances or {})
        self.compute, self.graphics, self.installed, self.refuses = compute, graphics, installed, tuple(refuses)
        self.mig = 1 if self.instances else mig

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name.startswith("nvml") and callable(value) and name.endswith(super().__getattribute__("refuses")):
            return refuse
        return value

    def nvmlInit(self) -> None:  # noqa: N802 - the binding's name
        if not self.installed:
            raise FakeLibraryNotFoundError

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802 - the binding's name
        bare = uuid.removeprefix("GPU-")
        if uuid not in self.instances and (bare == uuid or bare not in self.used):
            raise FakeError(f"no device {uuid}")
        return uuid if uuid in self.instances else bare

    def nvmlDeviceGetMigMode(self, handle: str) -> list[int]:  # noqa: N802 - the binding's name
        if self.mig is None:
            raise FakeError("Not Supported")
        return [self.mig, self.mig]

    def nvmlDeviceGetName(self, handle: str) -> bytes:  # noqa: N802 - the binding's name
        return b"Fake H1"

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802 - the binding's name
        return "570.1"

    def nvmlDeviceGetMemoryInfo(self, handle: str, version: int | None = None) -> SimpleNamespace:  # noqa: N802
        if version == self.nvmlMemory_v2:
            if "MemoryInfo_v2" in self.refuses:
                raise FakeError("Function Not Found")
            return SimpleNamespace(used=6_400, reserved=600)
        return SimpleNamespace(used=(self.used | self.instances)[handle])

    def nvmlDeviceGetClockInfo(self, handle: str, which: int) -> int:  # noqa: N802 - the binding's name
        return {self.NVML_CLOCK_SM: 1980, self.NVML_CLOCK_MEM: 2619}[which]

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:  # noqa: N802 - the binding's name
        return 41

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802 - the binding's name
        return 123_000

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:  # noqa: N802 - the old name, all that this one has
        return 0x4

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[SimpleNamespace]:  # noqa: N802 - the binding's name
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.compute]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: str) -> list[SimpleNamespace]:  # noqa: N802 - the binding's name
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.graphics]

    nvmlDeviceGetComputeRunningProcesses_v2: Callable[..., Any] = nvmlDeviceGetComputeRunningProcesses  # noqa: N815
    nvmlDeviceGetGraphicsRunningProcesses_v2: Callable[..., Any] = nvmlDeviceGetGraphicsRunningProcesses  # noqa: N815


def refuse(*_: Any) -> Any:
    """What a driver answers that does not offer a query."""
    raise FakeError("Not Supported")
