"""GPU memory as the driver sees it, with a reason wherever it does not say.

The memory probe samples it; it counts the CUDA context and library workspaces that torch's allocator never sees.
"""

from __future__ import annotations

import importlib
import os
from typing import Any, Protocol


class NotMeasuredError(Exception):
    """A figure that this machine does not give; its text is the reason that a Reading shows."""


class GpuMemory(Protocol):
    """What the probe needs of a GPU. Both figures raise NotMeasuredError, never return 0 for "unknown"."""

    name: str
    uuid: str
    driver: str

    def device_used_bytes(self) -> int:
        """Bytes in use on the whole device, other processes and the driver's own share included."""
        ...

    def process_used_bytes(self) -> int:
        """Bytes that the driver charges to this process."""
        ...


class NvmlGpu:
    """One GPU through NVML (package nvidia-ml-py, module pynvml)."""

    def __init__(self, nvml: Any, handle: Any, uuid: str, pid: int) -> None:
        self._nvml, self._handle, self._pid = nvml, handle, pid
        self.uuid = uuid
        self.name = _text(nvml.nvmlDeviceGetName(handle))
        self.driver = _text(nvml.nvmlSystemGetDriverVersion())

    def device_used_bytes(self) -> int:
        """`used` of the device's memory info, in bytes."""
        try:
            return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)
        except self._nvml.NVMLError as error:
            raise NotMeasuredError(f"NVML gave no device memory: {error}") from error

    def process_used_bytes(self) -> int:
        """The largest figure of the compute and graphics lists; a process stands in both, so their sum counts it twice."""
        entries: list[Any] = []
        for query in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
            try:
                entries += getattr(self._nvml, query)(self._handle)
            except self._nvml.NVMLError as error:
                raise NotMeasuredError(f"NVML gave no process list: {error}") from error
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


def find_gpu(device: str, nvml: Any = None, uuid: str | None = None) -> NvmlGpu | str:
    """The GPU behind a torch device, or the reason why NVML cannot be asked.

    It is found by UUID, because CUDA's index follows CUDA_VISIBLE_DEVICES and its own order, and NVML's does not.
    `nvml` and `uuid` stand in for pynvml and for torch's UUID in tests.
    """
    if not device.startswith("cuda"):
        return f"device {device} is not an NVIDIA GPU"
    if nvml is None:
        try:
            # The module of nvidia-ml-py; the package that is called pynvml is a deprecated shell around it.
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return "NVML's binding is not installed (pip install nvidia-ml-py)"
    try:
        nvml.nvmlInit()
        name = nvml_uuid(uuid if uuid is not None else _torch_uuid(device))
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
