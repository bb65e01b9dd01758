"""Clocks, memory and environment: what a candidate costs.

The harness wraps them around sampling; they know no models. MEMORY_READINGS names each memory figure with the line
that the page shows for it.
"""

from __future__ import annotations

from typing import Final

from harness.probes.clock import Stopwatch
from harness.probes.environment import environment
from harness.probes.memory import MemoryProbe
from harness.probes.nvml import GpuMemory, NotMeasuredError, NvmlGpu, find_gpu

MEMORY_READINGS: Final[dict[str, str]] = {
    "nvml_device_peak_bytes": "in use on the whole GPU as the driver sees it, other processes included, polled every 5 ms",
    "nvml_process_peak_bytes": "charged to this process by the driver, CUDA context and workspaces included, polled",
    "torch_allocated_peak_bytes": "held by tensors, exact, without the context and without the allocator's cache",
    "torch_reserved_peak_bytes": "held by torch's allocator, its cache included, exact, without the context",
    "process_rss_peak_bytes": "resident in main memory, the libraries included",
}

__all__ = ["MEMORY_READINGS", "GpuMemory", "MemoryProbe", "NotMeasuredError", "NvmlGpu", "Stopwatch", "environment",
           "find_gpu"]
