"""How much memory a device has, and how much of it is free now."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SPARE_BYTES: Final = 2 ** 29
"""Memory of a GPU that is left for what torch's allocator does not count, the CUDA context and workspaces of libraries, and for
activations where weights come for a while."""
_MEMINFO: Final = Path("/proc/meminfo")
_CGROUP: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class DeviceMemory:
    """Bytes of a device: all, and free ones. `name` is the model of a GPU, or "cpu"."""

    name: str
    total: int
    free: int


def device_memory(device: str) -> DeviceMemory:
    """The memory of "cpu", "cuda" or "cuda:N"; of a CPU that of the host, or of the container. Raises OSError where the
    system does not tell."""
    if device == "cpu":
        total, free = _host()
        return DeviceMemory(name="cpu", total=total, free=free)
    import torch

    available, whole = torch.cuda.mem_get_info(device)
    # What this process has cached already is free for the next model.
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return DeviceMemory(name=torch.cuda.get_device_name(device), total=int(whole), free=int(available) + int(cached))


def _host(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> tuple[int, int]:
    """(total, available) bytes."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines() if ":" in line)
        total, free = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    except FileNotFoundError:  # no Linux
        total = free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (KeyError, ValueError, IndexError) as error:
        raise OSError(f"{meminfo} does not say how much memory there is: {error}") from error
    try:
        limit, used = (int((cgroup / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no container, or "max"
        return total, free
    return min(total, limit), min(free, limit - used + _reclaimable(cgroup))


def _reclaimable(cgroup: Path) -> int:
    """Bytes of file cache that the container gives back when memory is short: mapped model files count as used until then."""
    try:
        lines = dict(line.split() for line in (cgroup / "memory.stat").read_text(encoding="ascii").splitlines())
        return int(lines.get("inactive_file", 0))
    except (OSError, ValueError):
        return 0
