"""Five peaks of memory at once, because they disagree and each is asked for.

The harness wraps the probe around the sampling of one candidate at batch 1 and journals its readings.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final

from harness.probes.nvml import GpuMemory, NotMeasuredError
from harness.probes.rss import RssPeak
from harness.records import Reading

INTERVAL_SECONDS: Final = 0.005


class MemoryProbe:
    """Context manager for one stretch; afterwards `readings()` has all five peaks in bytes, each a number or the reason for none.

    `gpu` is the driver's view or, as a string, why there is none. NVML is polled every 5 ms from a thread, so a peak
    shorter than that can be missed; torch's peaks are exact but leave out the CUDA context and library workspaces.
    """

    def __init__(self, device: str, gpu: GpuMemory | str, *, rss: RssPeak | None = None,
                 interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._device, self._interval = device, interval_seconds
        self._rss = rss or RssPeak()
        self._peaks: dict[str, int] = {}
        self._why: dict[str, str] = {}
        self._sources: dict[str, Callable[[], int]] = {}
        if isinstance(gpu, str):
            self._why |= dict.fromkeys(("nvml_device_peak_bytes", "nvml_process_peak_bytes"), gpu)
        else:
            self._sources = {"nvml_device_peak_bytes": gpu.device_used_bytes,
                             "nvml_process_peak_bytes": gpu.process_used_bytes}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> MemoryProbe:
        self._start_torch()
        try:
            self._rss.start()
        except NotMeasuredError as reason:
            self._why["process_rss_peak_bytes"] = str(reason)
        self._sample()
        self._thread = threading.Thread(target=self._run, name="memory-probe", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._sample()
        self._finish_torch()
        if "process_rss_peak_bytes" not in self._why:
            self._take("process_rss_peak_bytes", self._rss.peak_bytes)

    def readings(self) -> tuple[Reading, ...]:
        """The five readings in fixed order; before the probe was left they say so."""
        return tuple(self._reading(name) for name in (
            "nvml_device_peak_bytes", "nvml_process_peak_bytes", "torch_allocated_peak_bytes",
            "torch_reserved_peak_bytes", "process_rss_peak_bytes"))

    def _reading(self, name: str) -> Reading:
        # A source that failed half-way has seen only part of the stretch, so its highest sample is not a peak.
        why = self._why.get(name, "" if name in self._peaks else "the probe is still running")
        return Reading(name=name, unit="bytes", value=None if why else float(self._peaks[name]), why_missing=why)

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self._sample()

    def _sample(self) -> None:
        for name, source in self._sources.items():
            if name not in self._why:
                self._take(name, source)
        if "process_rss_peak_bytes" not in self._why:
            try:
                self._rss.sample()
            except NotMeasuredError as reason:
                self._why["process_rss_peak_bytes"] = str(reason)

    def _take(self, name: str, source: Callable[[], int]) -> None:
        try:
            self._peaks[name] = max(self._peaks.get(name, 0), source())
        except NotMeasuredError as reason:
            self._why[name] = str(reason)

    def _start_torch(self) -> None:
        if not self._device.startswith("cuda"):
            why = f"device {self._device} has no CUDA allocator"
            self._why |= dict.fromkeys(("torch_allocated_peak_bytes", "torch_reserved_peak_bytes"), why)
            return
        import torch

        torch.cuda.synchronize(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)

    def _finish_torch(self) -> None:
        if not self._device.startswith("cuda"):
            return
        import torch

        torch.cuda.synchronize(self._device)
        self._peaks["torch_allocated_peak_bytes"] = torch.cuda.max_memory_allocated(self._device)
        self._peaks["torch_reserved_peak_bytes"] = torch.cuda.max_memory_reserved(self._device)
