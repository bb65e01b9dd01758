"""Clocks, memory, energy and environment: what a candidate costs.

They know nothing about models. MEMORY_READINGS describes each memory figure as the page shows it, TIMELINE_SERIES each line of
memory over time.
"""

from __future__ import annotations

from typing import Final

from harness.probes.batch_size_curve import CurveLimits, batch_curve, images_per_second
from harness.probes.clock import Stopwatch, timed
from harness.probes.environment import environment
from harness.probes.fits import OutOfMemory, fits, out_of_memory
from harness.probes.memory import MemoryProbe, idle_before_use, idle_bytes
from harness.probes.nvml import GpuMemory, GpuPower, NotMeasuredError, NvmlGpu, find_gpu
from harness.probes.polling import Poller, thin
from harness.probes.power import CLOCK_LIMITS, PowerProbe, limits_in_words
from harness.probes.rounds import Around, Rounds, Visit, interleave, round_order

MEMORY_READINGS: Final[dict[str, str]] = {
    "nvml_device_peak_bytes": "in use on the whole GPU as the driver sees it, including other processes; polled every 4 ms",
    "nvml_process_peak_bytes": "charged to this process by the driver, including CUDA context and workspaces; polled",
    "torch_allocated_peak_bytes": "held by tensors; exact, without the context and the allocator's cache",
    "torch_reserved_peak_bytes": "held by torch's allocator, including its cache; exact, without the context",
    "process_rss_peak_bytes": "resident in main memory, including libraries",
    "over_idle_peak_bytes": "in use on the whole GPU, minus its use by others before this process used it",
    "driver_reserved_bytes": "reserved on the GPU by driver and firmware",
}

TIMELINE_SERIES: Final[dict[str, str]] = {
    "device_used": "in use on the whole GPU, as the driver sees it",
    "process_used": "charged to this process by the driver",
    "process_rss": "of this process in main memory",
}

__all__ = [
    "CLOCK_LIMITS",
    "MEMORY_READINGS",
    "TIMELINE_SERIES",
    "Around",
    "CurveLimits",
    "GpuMemory",
    "GpuPower",
    "MemoryProbe",
    "NotMeasuredError",
    "NvmlGpu",
    "OutOfMemory",
    "Poller",
    "PowerProbe",
    "Rounds",
    "Stopwatch",
    "Visit",
    "batch_curve",
    "environment",
    "find_gpu",
    "fits",
    "idle_before_use",
    "idle_bytes",
    "images_per_second",
    "interleave",
    "limits_in_words",
    "out_of_memory",
    "round_order",
    "thin",
    "timed",
]
