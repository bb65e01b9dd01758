"""A GPU's memory, energy and clocks as the driver sees them, with a reason for every missing figure.

The driver also counts the CUDA context and library workspaces, which torch's allocator does not see.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any, Protocol


class NotMeasuredError(Exception):
    """A figure that this machine does not provide; its message is the reason that a Reading shows."""


def answer(read: Callable[[], int]) -> int | str:
    """The result of `read`, or the reason why it failed: a measurement must not stop what it measures, whatever a driver or its
    binding raises."""
    try:
        return read()
    except NotMeasuredError as reason:
        return str(reason) or "no reason was given"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


class GpuMemory(Protocol):
    """What the memory probe needs of a GPU. Every figure raises NotMeasuredError if unknown; 0 never means "unknown"."""

    name: str
    uuid: str
    driver: str

    def device_used_bytes(self) -> int:
        """Bytes in use on the whole device, including other processes and the driver's own share."""
        ...

    def process_used_bytes(self) -> int:
        """Bytes that the driver charges to this process."""
        ...

    def reserved_bytes(self) -> int:
        """Bytes of the device that driver and firmware reserve."""
        ...


class GpuPower(Protocol):
    """What the power probe needs of a GPU. Every figure raises NotMeasuredError if the driver does not report it."""

    def energy_millijoules(self) -> int:
        """Energy since the driver was loaded."""
        ...

    def sm_clock_mhz(self) -> int:
        """Current clock of the multiprocessors."""
        ...

    def memory_clock_mhz(self) -> int:
        """Current clock of the memory."""
        ...

    def temperature_celsius(self) -> int:
        """Current temperature of the GPU itself."""
        ...

    def clock_limits(self) -> int:
        """What throttles the clocks now, one bit per reason; 0 if nothing does."""
        ...


class NvmlGpu:
    """One GPU through NVML (package nvidia-ml-py, module pynvml)."""

    def __init__(self, nvml: Any, handle: Any, uuid: str, pid: int) -> None:
        self._nvml, self._handle, self._pid = nvml, handle, pid
        self.uuid = uuid
        self.name = _text(nvml.nvmlDeviceGetName(handle))
        self.driver = _text(nvml.nvmlSystemGetDriverVersion())

    def device_used_bytes(self) -> int:
        """`used` of the device's memory info (the first version, which includes the driver's reserve), in bytes."""
        return int(self._ask("device memory", "nvmlDeviceGetMemoryInfo").used)

    def reserved_bytes(self) -> int:
        """`reserved` of the second version of the memory info, which older drivers lack, in bytes."""
        version = getattr(self._nvml, "nvmlMemory_v2", None)
        if version is None:
            raise NotMeasuredError("this NVML binding is too old to report the driver's reserved memory")
        return int(self._ask("reserved memory", "nvmlDeviceGetMemoryInfo", version).reserved)

    def process_used_bytes(self) -> int:
        """The largest figure of the compute and graphics lists; a process can be in both, so their sum would count it twice."""
        entries: list[Any] = []
        for query in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
            entries += self._ask("process list", query)
        own = [entry.usedGpuMemory for entry in entries if entry.pid == self._pid]
        if not own:
            raise NotMeasuredError(f"the driver lists {len(entries)} processes, but none with id {self._pid}: start a container "
                                   "with the host's process ids (--pid=host)")
        known = [int(used) for used in own if used is not None]
        if not known:
            raise NotMeasuredError("the driver answers N/A for memory per process (Windows in WDDM mode does)")
        if max(known) == 0:
            raise NotMeasuredError("the driver reports 0 bytes for this process, which uses the device: "
                                   "it mixes up process ids between containers")
        return max(known)

    def energy_millijoules(self) -> int:
        """Energy since the driver was loaded; GPUs before Volta do not count it."""
        return int(self._ask("energy (GPUs count it from Volta on)", "nvmlDeviceGetTotalEnergyConsumption"))

    def sm_clock_mhz(self) -> int:
        """Current clock of the multiprocessors in MHz."""
        return int(self._ask("clock", "nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM))

    def memory_clock_mhz(self) -> int:
        """Current clock of the memory in MHz."""
        return int(self._ask("memory clock", "nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_MEM))

    def temperature_celsius(self) -> int:
        """Current temperature of the GPU in degrees Celsius."""
        return int(self._ask("temperature", "nvmlDeviceGetTemperature", self._nvml.NVML_TEMPERATURE_GPU))

    def clock_limits(self) -> int:
        """The bits of the clocks' event reasons; the old name of the query serves drivers before 535."""
        try:
            return int(self._ask("reason for its clocks", "nvmlDeviceGetCurrentClocksEventReasons"))
        except NotMeasuredError:
            return int(self._ask("reason for its clocks", "nvmlDeviceGetCurrentClocksThrottleReasons"))

    def _ask(self, what: str, query: str, *arguments: Any) -> Any:
        """One query about this GPU. An error of NVML, or of an older or newer binding, becomes the reason."""
        try:
            return getattr(self._nvml, query)(self._handle, *arguments)
        except self._nvml.NVMLError as error:
            raise NotMeasuredError(f"NVML gave no {what}: {error}") from error
        except AttributeError as error:
            raise NotMeasuredError(f"this NVML binding does not report the {what} ({query} is missing)") from error


def find_gpu(device: str, nvml: Any = None, uuid: str | None = None) -> NvmlGpu | str:
    """The GPU behind a torch device, or the reason why NVML cannot be used.

    It is found by UUID, because CUDA's index follows CUDA_VISIBLE_DEVICES and its own order, and NVML's does not.
    `nvml` and `uuid` replace pynvml and torch's UUID in tests.
    """
    if not device.startswith("cuda"):
        return f"device {device} is not an NVIDIA GPU"
    try:
        # The module of nvidia-ml-py; the package called pynvml is a deprecated wrapper around it.
        nvml = nvml if nvml is not None else importlib.import_module("pynvml")
        name = nvml_uuid(uuid if uuid is not None else _torch_uuid(device))
    except ImportError:
        return "NVML's binding is not installed (pip install nvidia-ml-py)"
    except (RuntimeError, AssertionError, AttributeError) as error:  # no CUDA in this torch, no such device, or an old torch
        return f"torch does not say which GPU {device} is: {error}"
    return _gpu_of(nvml, name)


def _gpu_of(nvml: Any, name: str) -> NvmlGpu | str:
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(name)
        if _mig_enabled(nvml, handle):
            return "the GPU is partitioned (MIG): NVML's figures are for the whole card, not for this instance"
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
