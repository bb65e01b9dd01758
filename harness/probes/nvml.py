"""A GPU's memory, energy and clocks as the driver sees them, with a reason for every missing figure.

The driver also counts the CUDA context and library workspaces, which torch's allocator does not see.
"""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Callable
from typing import Any, Final, Protocol

INSTANCE: Final = "MIG-"
"""Begins the UUID of an instance of a partitioned card."""


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
        """The largest figure of the compute and graphics lists; a process can be in both, so their sum would count it twice. A
        list that the driver does not offer leaves the other."""
        entries: list[Any] = []
        refusals = []
        for kind in ("Compute", "Graphics"):
            try:
                entries += self._processes(kind)
            except NotMeasuredError as reason:
                refusals.append(reason)
        if len(refusals) > 1:
            raise refusals[0]
        own = [entry.usedGpuMemory for entry in entries if entry.pid == self._pid]
        if not own and under_windows():
            raise NotMeasuredError("the driver does not list this process: under Windows and WSL 2 it keeps no such list")
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

    def _processes(self, kind: str) -> list[Any]:
        """The list in its newest version, or in that of drivers before 510."""
        query = f"nvmlDeviceGet{kind}RunningProcesses"
        try:
            return list(self._ask("process list", query))
        except NotMeasuredError as reason:
            try:
                return list(self._ask("process list", f"{query}_v2"))
            except NotMeasuredError:
                raise reason from None

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

    It is found by UUID, because CUDA's index follows CUDA_VISIBLE_DEVICES and its own order, and NVML's does not. Of a
    partitioned card (MIG) it is the instance that CUDA uses. `nvml` and `uuid` replace pynvml and torch's UUID in tests.
    """
    if not device.startswith("cuda"):
        return f"device {device} is not an NVIDIA GPU"
    try:
        # The module of nvidia-ml-py; the package called pynvml is a deprecated wrapper around it.
        nvml = nvml if nvml is not None else importlib.import_module("pynvml")
        uuid = uuid if uuid is not None else _torch_uuid(device)
    except ImportError:
        return "NVML's binding is not installed (pip install nvidia-ml-py)"
    except (RuntimeError, AssertionError, AttributeError) as error:  # no CUDA in this torch, no such device, or an old torch
        return f"torch does not say which GPU {device} is: {error}"
    return _gpu_of(nvml, uuid)


def _gpu_of(nvml: Any, uuid: str) -> NvmlGpu | str:
    try:
        nvml.nvmlInit()
        name = nvml_uuid(uuid)
        handle = nvml.nvmlDeviceGetHandleByUUID(name)
        if not name.startswith(INSTANCE) and _mig_enabled(nvml, handle):
            if not (name := _visible_instance()):
                return ("the GPU is partitioned (MIG), and which instance this is was not said: set CUDA_VISIBLE_DEVICES to its "
                        "UUID (nvidia-smi -L)")
            handle = nvml.nvmlDeviceGetHandleByUUID(name)
        return NvmlGpu(nvml, handle, name, os.getpid())
    except nvml.NVMLError_LibraryNotFound:
        return "NVML's library was not found: no NVIDIA driver on this machine"
    except nvml.NVMLError as error:
        return f"NVML refused: {error}"


def nvml_uuid(uuid: str) -> str:
    """torch writes the bare UUID, NVML wants it behind "GPU-", or behind "MIG-" for the instance that CUDA_VISIBLE_DEVICES
    names."""
    if uuid.startswith(("GPU-", INSTANCE)):
        return uuid
    return f"{INSTANCE}{uuid}" if _visible_instance() == f"{INSTANCE}{uuid}" else f"GPU-{uuid}"


def _visible_instance() -> str:
    """The instance of a partitioned card in CUDA_VISIBLE_DEVICES, of which CUDA uses one at most; empty if it names none."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    return first if first.startswith(INSTANCE) else ""


def under_windows() -> bool:
    """Whether the driver of the GPU is that of Windows: on Windows itself, or in WSL 2."""
    return platform.system() == "Windows" or "microsoft" in platform.release().lower()


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
