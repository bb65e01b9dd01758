"""The timeline: thinned without losing a peak, on the stopwatch's clock, and honest about its rate and its gaps."""

from __future__ import annotations

import random
import time

import pytest

from harness.probes import NotMeasuredError, Poller, Stopwatch, thin
from harness.probes.rss import resident_bytes
from harness.records import from_line, to_line
from tests.probes.fakes import FakeClock


def by_hand(samples: int, clock: FakeClock, **sources: object) -> Poller:
    """A poller that was sampled `samples` times without its thread, the clock moving with every reading."""
    poller = Poller(sources, now=clock, points=40)  # type: ignore[arg-type]
    for _ in range(samples):
        poller.sample()
    return poller


@pytest.mark.parametrize("length", [3, 100, 101, 5000])
def test_thinning_keeps_the_ends_the_highest_and_the_lowest(length: int) -> None:
    drawn = random.Random(length)
    times = sorted(drawn.random() for _ in range(length))
    values = [drawn.randrange(10**9) for _ in range(length)]
    kept_times, kept = thin(times, values, 100)
    assert len(kept) == len(kept_times) <= 100
    assert {max(values), min(values), values[0], values[-1]} <= set(kept)
    assert set(zip(kept_times, kept, strict=True)) <= set(zip(times, values, strict=True))
    assert kept_times == sorted(kept_times)


def test_a_peak_of_one_sample_survives_however_long_the_run() -> None:
    count = iter(range(10**6))
    poller = by_hand(5000, FakeClock(step=0.001), device_used=lambda: 10**9 if next(count) == 1234 else 5)
    timeline = poller.timeline("a")
    assert poller.peak("device_used") == 10**9
    assert max(timeline.series[0].used_bytes) == 10**9
    assert len(timeline.series[0].used_bytes) <= 40
    assert timeline.samples == 5000


def test_a_rate_below_100_is_said() -> None:
    slow = by_hand(20, FakeClock(step=0.01), used=lambda: 1).timeline("a")  # the clock is read twice a sample: 50 a second
    assert slow.samples_per_second == pytest.approx(50, rel=0.01)
    assert "fewer than 100" in slow.notes[0]
    assert by_hand(20, FakeClock(step=0.002), used=lambda: 1).timeline("a").notes == ()


def test_the_longest_gap_is_kept_and_said() -> None:
    clock = FakeClock()
    poller = Poller({}, now=clock)
    for moment in (1.0, 1.1, 1.9, 2.0):
        clock.time = moment
        poller.sample()
    timeline = poller.timeline("a")
    assert timeline.longest_gap_seconds == pytest.approx(0.8)
    assert "nothing was sampled for 0.80 s" in timeline.notes[-1]


def test_a_source_that_breaks_ends_its_own_series_with_the_reason() -> None:
    answers = iter([1, 2])

    def breaks() -> int:
        try:
            return next(answers)
        except StopIteration:
            raise NotMeasuredError("GPU is lost") from None

    poller = by_hand(5, FakeClock(step=0.001), broken=breaks, whole=lambda: 3, raises=lambda: 1 // 0)
    broken, whole, raises = poller.timeline("a").series
    assert (broken.used_bytes, broken.why_ended) == ((1, 2), "GPU is lost")
    assert (whole.used_bytes, whole.why_ended) == ((3,) * 5, "")
    assert raises.why_ended.startswith("ZeroDivisionError")
    with pytest.raises(NotMeasuredError, match="GPU is lost"):
        poller.peak("broken")


def test_phases_lie_on_the_timelines_own_axis() -> None:
    clock = FakeClock()
    clock.time = 100.0
    poller, watch = Poller({"used": lambda: 1}, now=clock), Stopwatch(now=clock)
    poller.sample()
    clock.time = 101.0
    with watch.phase("switch"):
        clock.time = 103.5
    poller.sample()
    timeline = poller.timeline("a", watch.spans, "s")
    assert [(s.phase, s.start_seconds, s.end_seconds) for s in timeline.spans] == [("switch", 1.0, 3.5)]
    assert timeline.series[0].at_seconds == (0.0, 3.5)
    assert from_line(to_line(timeline)) == timeline


def test_the_thread_samples_on_its_own_and_is_gone_afterwards() -> None:
    seen: list[float] = []
    with Poller({"process_rss": resident_bytes}, watchers=[lambda: seen.append(time.perf_counter())]) as poller:
        while len(seen) < 10:
            time.sleep(0.001)
    count = len(seen)
    time.sleep(0.02)
    assert len(seen) == count == poller.timeline("a").samples
    assert min(poller.timeline("a").series[0].used_bytes) > 1_000_000


def test_where_there_is_no_statm_the_reason_names_it(tmp_path: object) -> None:
    from pathlib import Path

    with pytest.raises(NotMeasuredError, match="statm cannot be read"):
        resident_bytes(Path(str(tmp_path)))
