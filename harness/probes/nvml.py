"""A GPU's memory, energy and clocks as the driver sees them, with a reason wherever it does not say.

The memory and power probes sample it; it counts the CUDA context and library workspaces that torch's allocator never sees.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any, Protocol


class NotMeasuredError(Exception):
    """A figure that this machine does not give; its text is the reason that a Reading shows."""


def answer(read: Callable[[], int]) -> int | str:
    """What `read` returns, or why it returned nothing: a measurement must not end what it measures, whatever a driver or
    its binding raises."""
    try:
        return read()
    except NotMeasuredError as reason:
        return str(reason) or "no reason was given"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


class GpuMemory(Protocol):
    """What the memory probe needs of a GPU. Every figure raises NotMeasuredError, never return 0 for "unknown"."""

    name: str
    uuid: str
    driver: str

    def device_used_bytes(self) -> int:
        """Bytes in use on the whole device, other processes and the driver's own share included."""
        ...

    def process_used_bytes(self) -> int:
        """Bytes that the driver charges to this process."""
        ...

    def reserved_bytes(self) -> int:
        """Bytes of the device that driver and firmware keep for themselves."""
        ...


class GpuPower(Protocol):
    """What the power probe needs of a GPU. Every figure raises NotMeasuredError where the driver does not tell."""

    def energy_millijoules(self) -> int:
        """Energy since the driver was loaded."""
        ...

    def sm_clock_mhz(self) -> int:
        """Present clock of the multiprocessors."""
        ...

    def memory_clock_mhz(self) -> int:
        """Present clock of the memory."""
        ...

    def temperature_celsius(self) -> int:
        """Present temperature of the GPU itself."""
        ...

    def clock_limits(self) -> int:
        """What holds the clocks back now, one bit per reason; 0 is nothing."""
        ...


class NvmlGpu:
    """One GPU through NVML (package nvidia-ml-py, module pynvml)."""

    def __init__(self, nvml: Any, handle: Any, uuid: str, pid: int) -> None:
        self._nvml, self._handle, self._pid = nvml, handle, pid
        self.uuid = uuid
        self.name = _text(nvml.nvmlDeviceGetName(handle))
        self.driver = _text(nvml.nvmlSystemGetDriverVersion())

    def device_used_bytes(self) -> int:
        """`used` of the device's memory info (the first version, whose `used` counts what the driver keeps), in bytes."""
        return int(self._ask("device memory", "nvmlDeviceGetMemoryInfo").used)

    def reserved_bytes(self) -> int:
        """`reserved` of the second version of the memory info, which older drivers lack, in bytes."""
        version = getattr(self._nvml, "nvmlMemory_v2", None)
        if version is None:
            raise NotMeasuredError("this NVML binding is too old to tell what the driver keeps for itself")
        return int(self._ask("reserved memory", "nvmlDeviceGetMemoryInfo", version).reserved)

    def process_used_bytes(self) -> int:
        """The largest figure of the compute and graphics lists; a process stands in both, so their sum counts it twice."""
        entries: list[Any] = []
        for query in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
            entries += self._ask("process list", query)
        own = [entry.usedGpuMemory for entry in entries if entry.pid == self._pid]
        if not own:
            raise NotMeasuredError(f"the driver lists {len(entries)} processes and none has id {self._pid}: "
                                   "in a container, start it with the host's process ids (--pid=host)")
        known = [int(used) for used in own if used is not None]
        if not known:
            raise NotMeasuredError("the driver answers N/A for memory per process (Windows in WDDM mode does)")
        if max(known) == 0:
            raise NotMeasuredError("the driver reports 0 bytes for this process, which uses the device: "
                                   "it mixes up process ids between containers")
        return max(known)

    def energy_millijoules(self) -> int:
        """Since the driver was loaded; GPUs before Volta do not count it."""
        return int(self._ask("energy (GPUs count it from Volta on)", "nvmlDeviceGetTotalEnergyConsumption"))

    def sm_clock_mhz(self) -> int:
        """Present clock of the multiprocessors in MHz."""
        return int(self._ask("clock", "nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM))

    def memory_clock_mhz(self) -> int:
        """Present clock of the memory in MHz."""
        return int(self._ask("memory clock", "nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_MEM))

    def temperature_celsius(self) -> int:
        """Present temperature of the GPU in degrees Celsius."""
        return int(self._ask("temperature", "nvmlDeviceGetTemperature", self._nvml.NVML_TEMPERATURE_GPU))

    def clock_limits(self) -> int:
        """The bits of the clocks' event reasons; the old name of the query serves drivers before 535."""
        try:
            return int(self._ask("reason for its clocks", "nvmlDeviceGetCurrentClocksEventReasons"))
        except NotMeasuredError:
            return int(self._ask("reason for its clocks", "nvmlDeviceGetCurrentClocksThrottleReasons"))

    def _ask(self, what: str, query: str, *arguments: Any) -> Any:
        """One query about this GPU; whatever NVML or a binding of another age answers instead is the reason."""
        try:
            return getattr(self._nvml, query)(self._handle, *arguments)
        except self._nvml.NVMLError as error:
            raise NotMeasuredError(f"NVML gave no {what}: {error}") from error
        except AttributeError as error:
            raise NotMeasuredError(f"this NVML binding does not tell the {what} ({query} is missing)") from error


def find_gpu(device: str, nvml: Any = None, uuid: str | None = None) -> NvmlGpu | str:
    """The GPU behind a torch device, or the reason why NVML cannot be asked.

    It is found by UUID, because CUDA's index follows CUDA_VISIBLE_DEVICES and its own order, and NVML's does not.
    `nvml` and `uuid` stand in for pynvml and for torch's UUID in tests.
    """
    if not device.startswith("cuda"):
        return f"device {device} is not an NVIDIA GPU"
    try:
        # The module of nvidia-ml-py; the package that is called pynvml is a deprecated shell around it.
        nvml = nvml if nvml is not None else importlib.import_module("pynvml")
        name = nvml_uuid(uuid if uuid is not None else _torch_uuid(device))
    except ImportError:
        return "NVML's binding is not installed (pip install nvidia-ml-py)"
    except (RuntimeError, AssertionError, AttributeError) as error:  # no CUDA in this torch, no such device, or an old torch
        return f"torch does not tell which GPU {device} is: {error}"
    return _gpu_of(nvml, name)


def _gpu_of(nvml: Any, name: str) -> NvmlGpu | str:
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(name)
        if _mig_enabled(nvml, handle):
            return "the GPU is partitioned (MIG): NVML's figures are those of the whole card, not of this instance"
        return NvmlGpu(nvml, handle, name, os.getpid())
    except nvml.NVMLError_LibraryNotFound:
        return "NVML's library was not found: no NVIDIA driver on this machine"
    except nvml.NVMLError as error:
        return f"NVML refused: {error}"


def nvml_uuid(uuid: str) -> str:
    """torch writes the bare UUID, NVML wants it behind "GPU-" (or "MIG-")."""
    return uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"


def _torch_uuid(device: str) -> str:
    import torch

    return str(torch.cuda.get_device_properties(device).uuid)


def _mig_enabled(nvml: Any, handle: Any) -> bool:
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:  # cards that cannot be partitioned answer "not supported"
        return False
    return bool(current)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
