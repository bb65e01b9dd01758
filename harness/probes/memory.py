"""All memory peaks, because the ways to measure them disagree and readers ask for each, and memory over time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from types import TracebackType
from typing import Final

from harness.probes.nvml import GpuMemory, NotMeasuredError, answer, find_gpu
from harness.probes.polling import SAMPLES_PER_SECOND, Poller
from harness.probes.rss import RssPeak, resident_bytes
from harness.records import Reading, Span, Timeline

DRIVER_RESERVED: Final = "driver_reserved_bytes"
_SERIES: Final = {"nvml_device_peak_bytes": "device_used", "nvml_process_peak_bytes": "process_used"}
_TORCH: Final = ("torch_allocated_peak_bytes", "torch_reserved_peak_bytes")
_NAMES: Final = ("nvml_device_peak_bytes", "nvml_process_peak_bytes", *_TORCH, "process_rss_peak_bytes",
                 "over_idle_peak_bytes", DRIVER_RESERVED)
_RSS: Final = "process_rss"
LOCK_SECONDS: Final = 0.0005


class MemoryProbe:
    """Context manager for one stretch, or several one after the other (`next_stretch`); afterwards `readings()` has all peaks of
    the last one in bytes, each a number or a reason why not.

    `gpu` is the driver's view or, as a string, why there is none; `idle` is `idle_bytes(gpu)` from before the pipeline was
    loaded. NVML is polled from a thread, so a peak shorter than the sampling interval can be missed; torch's peaks are
    exact but do not include the CUDA context and library workspaces.
    """

    def __init__(self, device: str, gpu: GpuMemory | str, *, idle: Reading | None = None, rss: RssPeak | None = None,
                 samples_per_second: float = SAMPLES_PER_SECOND) -> None:
        self._device, self._gpu = device, gpu
        self._idle = idle or Reading(name="idle_bytes", unit="bytes", value=None,
                                     why_missing="the device's use was not read before the pipeline was loaded")
        self._rss = rss or RssPeak()
        self._values: dict[str, int] = {}
        self._why: dict[str, str] = {}
        self._held = 0
        sources: dict[str, Callable[[], int]] = {_RSS: resident_bytes}
        if not isinstance(gpu, str):
            sources = {"device_used": gpu.device_used_bytes, "process_used": gpu.process_used_bytes} | sources
        self._poller = Poller(sources, watchers=(self._poll_rss,), samples_per_second=samples_per_second)

    def __enter__(self) -> MemoryProbe:
        self._start(self._rss.start)
        # Every reading releases the interpreter's lock and waits up to this long for it while Python code is busy; at the
        # default 5 ms that alone would reduce the rate below 100 per second. No timed image runs inside the probe.
        self._lock_seconds = sys.getswitchinterval()
        sys.setswitchinterval(LOCK_SECONDS)
        self._poller.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        try:
            self._finish_torch()
        finally:  # a broken CUDA context raises here
            self._poller.__exit__(kind, error, trace)
            sys.setswitchinterval(self._lock_seconds)
        self._take_all()

    def next_stretch(self, between: Callable[[], object]) -> tuple[Reading, ...]:
        """Ends the stretch, calls `between`, and starts another in the same timeline. Returns the readings of the first.

        Where the system keeps one peak of the resident set (not on Linux), that of the new stretch is of both.
        """
        self._finish_torch()
        self._poller.sample()
        self._take_all()
        ended = self.readings()
        between()
        self._values, self._why = {}, {}
        self._start(self._rss.start_again)
        self._poller.forget_peaks()
        return ended

    def readings(self) -> tuple[Reading, ...]:
        """The readings in fixed order; while the probe is running, each says so."""
        return tuple(self._reading(name) for name in _NAMES)

    def timeline(self, candidate: str, spans: Sequence[Span] = (), setting: str = "") -> Timeline:
        """Memory over the stretch: the device and this process as the driver sees them, and the process's resident set (on a CPU,
        only this). `spans` are those of a Stopwatch."""
        return self._poller.timeline(candidate, spans, setting)

    def _start(self, rss: Callable[[], None]) -> None:
        self._start_torch()
        try:
            rss()
        except NotMeasuredError as reason:
            self._why["process_rss_peak_bytes"] = str(reason)

    def _take_all(self) -> None:
        if "process_rss_peak_bytes" not in self._why:
            self._take("process_rss_peak_bytes", self._rss.peak_bytes)
        for name in _SERIES:
            self._take(name, partial(self._driver_peak, name))
        self._take(DRIVER_RESERVED, lambda: self._known_gpu().reserved_bytes())
        self._take("over_idle_peak_bytes", self._over_idle)

    def _reading(self, name: str) -> Reading:
        why = self._why.get(name, "" if name in self._values else "the probe is still running")
        return Reading(name=name, unit="bytes", value=None if why else float(self._values[name]), why_missing=why)

    def _take(self, name: str, source: Callable[[], int]) -> None:
        value = answer(source)
        if isinstance(value, str):
            self._why[name] = value
        else:
            self._values[name] = value

    def _known_gpu(self) -> GpuMemory:
        if isinstance(self._gpu, str):
            raise NotMeasuredError(self._gpu)
        return self._gpu

    def _driver_peak(self, name: str) -> int:
        self._known_gpu()
        series = _SERIES[name]
        # Both are read at the same moment, so the driver's figure cannot be the smaller one.
        if (used := self._poller.last(series)) < self._held:
            raise NotMeasuredError(f"the driver reports {used} bytes where torch alone holds {self._held}: its figure is of "
                                   "another process, or not of all memory")
        return self._poller.peak(series)

    def _over_idle(self) -> int:
        peak = self._driver_peak("nvml_device_peak_bytes")
        if self._idle.value is None:
            raise NotMeasuredError(self._idle.why_missing)
        idle = int(self._idle.value)
        if peak <= idle or self._poller.last("device_used") - idle < self._held:
            raise NotMeasuredError("other programs gave memory back since their use was read; close them, and time again")
        return peak - idle

    def _poll_rss(self) -> None:
        if "process_rss_peak_bytes" not in self._why:
            try:
                self._rss.sample()
            except NotMeasuredError as reason:
                self._why["process_rss_peak_bytes"] = str(reason)

    def _start_torch(self) -> None:
        if not self._device.startswith("cuda"):
            self._why |= dict.fromkeys(_TORCH, f"device {self._device} has no CUDA allocator")
            return
        import torch

        torch.cuda.synchronize(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)

    def _finish_torch(self) -> None:
        if not self._device.startswith("cuda"):
            return
        import torch

        torch.cuda.synchronize(self._device)
        self._values[_TORCH[0]] = torch.cuda.max_memory_allocated(self._device)
        self._values[_TORCH[1]] = torch.cuda.max_memory_reserved(self._device)
        self._held = torch.cuda.memory_reserved(self._device)


def idle_bytes(gpu: GpuMemory | str, *, used_before: bool = False) -> Reading:
    """Bytes that others than this process use on the device now; the probe subtracts them. `used_before` says that this process
    may have a CUDA context there already, which is then taken off."""
    why, own = gpu if isinstance(gpu, str) else "", 0
    if not isinstance(gpu, str):
        use, mine = answer(gpu.device_used_bytes), answer(gpu.process_used_bytes) if used_before else 0
        if isinstance(use, str):
            why = use
        elif isinstance(mine, str):
            why = f"this process had used the GPU before the others' use could be read, and {mine}"
        else:
            own = use - mine
    return Reading(name="idle_bytes", unit="bytes", value=None if why else float(own), why_missing=why)


@cache
def idle_before_use(device: str) -> Reading | None:
    """`idle_bytes` of a CUDA device, read once in a process: to be called before it uses the device, since its own context would
    later count as others' use. None of other devices."""
    if not device.startswith("cuda"):
        return None
    import torch

    used_before = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return idle_bytes(find_gpu(device), used_before=used_before)
