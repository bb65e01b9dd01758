"""Resident memory of this process: now, and its peak over a stretch of time.

Each way of measuring says when it does not apply."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from harness.probes.nvml import NotMeasuredError

_PROC: Final = Path("/proc/self")
_RESET_PEAK: Final = "5"


def resident_bytes(proc: Path = _PROC) -> int:
    """Bytes of this process in main memory now, from statm, the cheapest file that says so (Linux only)."""
    try:
        return int((proc / "statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError) as error:
        raise NotMeasuredError(f"{proc}/statm cannot be read: {error}") from error


class RssPeak:
    """Peak resident set in bytes between `start` and `peak_bytes`.

    Linux: VmHWM after resetting it through clear_refs, which misses nothing; if that is forbidden, the highest polled RSS.
    Elsewhere: the lifetime peak of getrusage, which is valid only if it rose in the meantime.
    """

    def __init__(self, proc: Path = _PROC, platform: str = sys.platform,
                 lifetime_peak: Callable[[], int] | None = None) -> None:
        self._proc, self._linux = proc, platform.startswith("linux")
        self._lifetime_peak = lifetime_peak or _lifetime_peak
        self._resets = False
        self._polled = 0
        self._before = 0

    def start(self) -> None:
        """Starts a new measurement."""
        self._polled = 0
        if not self._linux:
            self._before = self._lifetime_peak()
            return
        try:
            (self._proc / "clear_refs").write_text(_RESET_PEAK)
            self._resets = True
        except OSError:
            self._resets = False
        self.sample()

    def start_again(self) -> None:
        """Ends one measurement and starts the next, on Linux. Elsewhere the first goes on, because the system keeps one peak."""
        if self._linux:
            self.start()

    def sample(self) -> None:
        """Polls, if the kernel's peak cannot be reset."""
        if self._linux and not self._resets:
            self._polled = max(self._polled, self._status("VmRSS"))

    def peak_bytes(self) -> int:
        """The peak in bytes. Raises NotMeasuredError if the process was larger before `start` and the system keeps one peak."""
        if self._linux:
            self.sample()
            return self._status("VmHWM") if self._resets else self._polled
        now = self._lifetime_peak()
        if now <= self._before:
            raise NotMeasuredError("the process was larger before the measurement, and this system keeps only one peak")
        return now

    def _status(self, field: str) -> int:
        try:
            lines = (self._proc / "status").read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise NotMeasuredError(f"{self._proc}/status cannot be read: {error}") from error
        for line in lines:
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
        raise NotMeasuredError(f"{self._proc}/status has no {field}")


def _lifetime_peak() -> int:
    try:
        import resource
    except ImportError as error:
        raise NotMeasuredError("this system keeps no peak of resident memory that Python can read") from error
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
