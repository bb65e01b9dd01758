"""A thread that reads figures at a fixed rate: for the timeline of memory, and for peaks that nothing else records."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from harness.probes.nvml import NotMeasuredError, answer
from harness.records import Series, Span, Timeline

SAMPLES_PER_SECOND: Final = 250.0
"""The target rate. The interpreter's lock and slow drivers reduce it; it should not fall below LEAST_PER_SECOND."""

LEAST_PER_SECOND: Final = 100.0
LONG_GAP_SECONDS: Final = 0.1
POINTS: Final = 400


class Poller:
    """Reads every source, and calls every watcher, at a fixed rate between entering and leaving.

    A source returns bytes; if it raises, its series ends there with the reason, and the others continue. A watcher stores what
    it reads itself. Nothing raised in the thread reaches the caller.
    """

    def __init__(self, sources: Mapping[str, Callable[[], int]], *, watchers: Sequence[Callable[[], None]] = (),
                 samples_per_second: float = SAMPLES_PER_SECOND, points: int = POINTS,
                 now: Callable[[], float] = time.perf_counter) -> None:
        self._tracks = {name: _Track(read, points) for name, read in sources.items()}
        self._watchers, self._period, self._now = tuple(watchers), 1 / samples_per_second, now
        self._first = self._last = self._gap = 0.0
        self._count = 0
        self._sampling = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.sample()
        self._thread = threading.Thread(target=self._run, name="poller", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.sample()

    def sample(self) -> None:
        """Reads everything once, now; the thread calls this regularly."""
        with self._sampling:
            self._sample()

    def forget_peaks(self) -> None:
        """Starts a new stretch: peaks are those since now. The timeline goes on."""
        with self._sampling:
            for track in self._tracks.values():
                track.peak = 0
            self._sample()

    def peak(self, name: str) -> int:
        """Highest value of a source in this stretch, in bytes. Raises NotMeasuredError if it failed at any time, because the rest
        is unknown."""
        return self._known(name).peak

    def last(self, name: str) -> int:
        """The value of a source at its last sample, in bytes. Raises as `peak`."""
        return self._known(name).values[-1]

    def timeline(self, candidate: str, spans: Sequence[Span] = (), setting: str = "") -> Timeline:
        """The samples, thinned to `points` per series, and `spans` (on the same clock) on the timeline's own axis."""
        length = self._last - self._first
        rate = (self._count - 1) / length if length > 0 else None
        notes = [] if rate is not None and rate >= LEAST_PER_SECOND else [
            f"sampled {rate:.0f} times per second, fewer than {LEAST_PER_SECOND:.0f}: short peaks may be missing"
            if rate is not None else "sampled once"]
        if self._gap > LONG_GAP_SECONDS:
            notes.append(f"nothing was sampled for {self._gap:.2f} s, while other code held the interpreter's lock")
        return Timeline(
            candidate=candidate, setting=setting, samples=self._count, notes=tuple(notes),
            samples_per_second=None if rate is None else round(rate, 1), longest_gap_seconds=round(self._gap, 6),
            series=tuple(track.series(name, self._first) for name, track in self._tracks.items()),
            spans=tuple(Span(phase=s.phase, start_seconds=round(s.start_seconds - self._first, 6),
                             end_seconds=round(s.end_seconds - self._first, 6)) for s in spans))

    def _sample(self) -> None:
        moment = self._now()
        self._first = moment if self._count == 0 else self._first
        self._gap = max(self._gap, moment - self._last) if self._count else 0.0
        self._last, self._count = moment, self._count + 1
        for track in self._tracks.values():
            track.take(self._now)
        for watch in self._watchers:
            watch()

    def _known(self, name: str) -> _Track:
        track = self._tracks[name]
        if track.why_ended:
            raise NotMeasuredError(track.why_ended)
        return track

    def _run(self) -> None:
        due = self._now() + self._period
        # Times are absolute, so a late sample delays only itself; missed samples are not made up for in a burst.
        while not self._stop.wait(max(0.0, due - self._now())):
            self.sample()
            due = max(due + self._period, self._now())


class _Track:
    """The samples of one source so far, thinned as they grow, so that hours need no more memory than minutes."""

    def __init__(self, read: Callable[[], int], points: int) -> None:
        self._read, self._points = read, points
        self.times: list[float] = []
        self.values: list[int] = []
        self.peak = 0
        self.why_ended = ""

    def take(self, now: Callable[[], float]) -> None:
        if self.why_ended:
            return
        value = answer(self._read)
        if isinstance(value, str):
            self.why_ended = value
            return
        self.times.append(now())
        self.values.append(value)
        self.peak = max(self.peak, value)
        if len(self.times) > 16 * self._points:
            self.times, self.values = thin(self.times, self.values, 8 * self._points)

    def series(self, name: str, start: float) -> Series:
        times, values = thin(self.times, self.values, self._points)
        return Series(name=name, at_seconds=tuple(round(t - start, 4) for t in times), used_bytes=tuple(values),
                      why_ended=self.why_ended)


def thin(times: list[float], values: list[int], points: int) -> tuple[list[float], list[int]]:
    """At most `points` samples: the first, the last, and of each of (points - 2) // 2 equal stretches of time the
    highest and the lowest. `times` ascend; peaks and dips therefore stay, with their times. Needs points >= 4."""
    if len(times) <= points:
        return times, values
    stretches = (points - 2) // 2
    width = (times[-1] - times[0]) / stretches or 1.0
    extremes: dict[int, tuple[int, int]] = {}
    for i in range(1, len(times) - 1):
        place = min(int((times[i] - times[0]) / width), stretches - 1)
        low, high = extremes.get(place, (i, i))
        extremes[place] = (i if values[i] < values[low] else low, i if values[i] > values[high] else high)
    indices = sorted({0, len(times) - 1, *(i for pair in extremes.values() for i in pair)})
    return [times[i] for i in indices], [values[i] for i in indices]
