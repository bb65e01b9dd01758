"""Energy, clocks and limits with a scripted GPU: sums by hand, and a reason for whatever is missing."""

from __future__ import annotations

import threading
import time

import pytest

from harness.probes import CLOCK_LIMITS, PowerProbe, limits_in_words
from harness.records import Power, from_line, to_line
from tests.probes.fakes import FakeClock, FakeGpu


def measured(gpu: FakeGpu | str, stretches: int = 1, images: int = 1, seconds: float = 2.0) -> Power:
    clock = FakeClock()
    probe = PowerProbe(gpu, now=clock, polls_per_second=1000)
    for _ in range(stretches):
        with probe.during(images):
            clock.time += seconds
    return probe.record("a", "s")


def values(power: Power) -> dict[str, float | None]:
    return {r.name: r.value for r in power.readings}


def test_energy_is_the_counters_difference_over_all_stretches() -> None:
    found = values(measured(FakeGpu(energy=[1000, 501_000, 900_000, 1_000_000]), stretches=2, images=3))
    assert found["energy_joules"] == pytest.approx(600)
    assert found["joules_per_image"] == pytest.approx(100)
    assert found["mean_watts"] == pytest.approx(150)


def test_a_counter_that_stood_still_is_a_reason_and_not_zero_joules() -> None:
    power = measured(FakeGpu(energy=5))
    assert values(power)["energy_joules"] is None
    assert "did not advance" in power.readings[0].why_missing


@pytest.mark.parametrize(("energy", "words"), [("Not Supported", "Not Supported"), ([5, "GPU is lost"], "GPU is lost"),
                                               ([500, 100], "counter decreased")])
def test_a_counter_that_fails_gives_its_reason_and_the_rest_goes_on(energy: object, words: str) -> None:
    power = measured(FakeGpu(energy=energy))
    assert all(words in r.why_missing for r in power.readings[:3])
    assert values(power)["temperature_end"] == 40


def test_clocks_and_temperature_are_those_before_the_first_and_after_the_last_stretch() -> None:
    found = values(measured(FakeGpu(celsius=[40, 50, 60, 70]), stretches=2))
    assert (found["temperature_start"], found["temperature_end"]) == (40, 60)  # the second start is not read again


def test_limits_are_the_union_of_those_before_and_after_every_stretch() -> None:
    power = measured(FakeGpu(limits=[0x1, 0x4, 0x48, 0]), stretches=2)
    assert power.limits == (CLOCK_LIMITS[0x1], CLOCK_LIMITS[0x4], CLOCK_LIMITS[0x8], CLOCK_LIMITS[0x40])


def test_the_lowest_clock_is_kept() -> None:
    assert values(measured(FakeGpu(sm=[1900, 1200, 1800])))["sm_clock_lowest"] == 1200


def test_a_timed_stretch_is_read_at_its_ends_alone_and_an_untimed_one_is_polled() -> None:
    gpu = FakeGpu(energy=[0, 5], limits=0x4)
    probe, threads, polls = PowerProbe(gpu, polls_per_second=1000), threading.active_count(), []
    gpu.sm_clock_mhz = lambda: polls.append(0) or 1500  # type: ignore[func-returns-value]
    with probe.during():
        before = len(polls)
        time.sleep(0.05)
        assert (threading.active_count(), len(polls)) == (threads, before)
    with probe.watched():
        before = len(polls)
        assert threading.active_count() == threads + 1
        time.sleep(0.05)
    assert len(polls) > before + 2
    assert probe.record("a").limits == (CLOCK_LIMITS[0x4],)


def test_without_a_gpu_nothing_is_watched() -> None:
    threads = threading.active_count()
    with PowerProbe("no driver").watched():
        assert threading.active_count() == threads


def test_no_gpu_is_one_reason_for_all_and_never_a_number() -> None:
    power = measured("device cpu is not an NVIDIA GPU")
    assert all((r.value, r.why_missing) == (None, "device cpu is not an NVIDIA GPU") for r in power.readings)
    assert (power.limits, power.why_no_limits) == ((), "device cpu is not an NVIDIA GPU")


def test_limits_that_cannot_be_read_are_not_an_empty_list_of_limits() -> None:
    assert measured(FakeGpu(limits="Insufficient Permissions")).why_no_limits == "Insufficient Permissions"


def test_a_stretch_that_raises_is_not_counted() -> None:
    probe = PowerProbe(FakeGpu(energy=[0, 5]))
    with pytest.raises(RuntimeError), probe.during():
        raise RuntimeError
    assert probe.record("a").images == 0
    assert all(r.value is None for r in probe.record("a").readings)


def test_every_bit_has_its_words_and_an_unknown_one_its_number() -> None:
    assert limits_in_words(0) == ()
    assert limits_in_words(0x3FF | 0x400) == tuple(CLOCK_LIMITS.values())
    assert limits_in_words(0x8000) == ("reason 0x8000 of the driver",)


def test_the_bits_are_those_of_the_binding() -> None:
    nvml = pytest.importorskip("pynvml")
    assert "power cap" in CLOCK_LIMITS[nvml.nvmlClocksEventReasonSwPowerCap]
    assert "hardware slowdown" in CLOCK_LIMITS[nvml.nvmlClocksEventReasonHwSlowdown]
    assert "hardware" in CLOCK_LIMITS[nvml.nvmlClocksEventReasonHwThermalSlowdown]
    assert "idle" in CLOCK_LIMITS[nvml.nvmlClocksEventReasonGpuIdle]
    assert set(CLOCK_LIMITS) == {1 << n for n in range(11)}


def test_a_power_record_survives_its_line() -> None:
    power = measured(FakeGpu(energy=[0, 5], limits=4))
    assert from_line(to_line(power)) == power
