"""The memory probe with a fake GPU, and the process's own peak for real."""

import time

import pytest
import torch

from harness.probes import MEMORY_READINGS, MemoryProbe, NotMeasuredError, idle_bytes
from harness.probes.rss import RssPeak
from tests.rehearsal.simulated_cuda import simulated


class FakeGpu:
    """Reports whatever it is told; the process figure fails once `fail` is set."""

    name, uuid, driver = "fake", "GPU-0", "1"

    def __init__(self, used=100):
        self.used, self.samples, self.fail = used, 0, False

    def device_used_bytes(self):
        self.samples += 1
        return self.used

    def process_used_bytes(self):
        if self.fail:
            raise NotMeasuredError("the list vanished")
        return self.used // 2

    def reserved_bytes(self):
        return 7


def by_name(probe):
    return {reading.name: reading for reading in probe.readings()}


def test_the_peak_is_the_highest_sample_and_not_the_last():
    gpu = FakeGpu()
    with MemoryProbe("cpu", gpu) as probe:
        gpu.used = 900
        time.sleep(0.05)
        gpu.used = 200
    assert by_name(probe)["nvml_device_peak_bytes"].value == 900
    assert by_name(probe)["nvml_process_peak_bytes"].value == 450


def test_the_rate_is_that_of_the_samples_taken():
    gpu = FakeGpu()
    with MemoryProbe("cpu", gpu) as probe:
        time.sleep(0.1)
    timeline = probe.timeline("a")
    assert timeline.samples == gpu.samples == len(timeline.series[0].used_bytes)
    length = timeline.series[0].at_seconds[-1] - timeline.series[0].at_seconds[0]
    assert timeline.samples_per_second == pytest.approx((gpu.samples - 1) / length, rel=0.02)


def test_what_cannot_be_measured_has_a_reason_and_no_number():
    with MemoryProbe("cpu", "no driver") as probe:
        pass
    readings = by_name(probe)
    assert readings["nvml_device_peak_bytes"].why_missing == "no driver"
    assert "no CUDA allocator" in readings["torch_allocated_peak_bytes"].why_missing
    assert all((reading.value is None) == bool(reading.why_missing) for reading in readings.values())


def test_a_source_that_fails_half_way_is_not_a_peak():
    gpu = FakeGpu()
    with MemoryProbe("cpu", gpu) as probe:
        gpu.fail = True
        time.sleep(0.03)
    assert by_name(probe)["nvml_process_peak_bytes"].why_missing == "the list vanished"
    assert by_name(probe)["nvml_device_peak_bytes"].value == 100


def test_each_stretch_has_its_own_peaks_and_the_timeline_holds_both():
    gpu = FakeGpu(used=900)
    with MemoryProbe("cpu", gpu) as probe:
        made = {r.name: r.value for r in probe.next_stretch(lambda: setattr(gpu, "used", 300))}
        gpu.used = 400
        time.sleep(0.05)
        gpu.used = 100
    assert (made["nvml_device_peak_bytes"], by_name(probe)["nvml_device_peak_bytes"].value) == (900, 400)
    assert {900, 300, 400} <= set(probe.timeline("a").series[0].used_bytes)


def test_the_resident_set_of_a_new_stretch_leaves_out_what_was_freed_before_it():
    with MemoryProbe("cpu", "none") as probe:
        block = bytearray(64_000_000)
        del block
        made = {r.name: r.value for r in probe.next_stretch(lambda: None)}
    assert made["process_rss_peak_bytes"] - by_name(probe)["process_rss_peak_bytes"].value > 40_000_000


def test_where_the_system_keeps_one_peak_that_of_the_second_stretch_is_of_both():
    peaks = iter([500, 700, 700])
    rss = RssPeak(platform="darwin", lifetime_peak=lambda: next(peaks))
    rss.start()
    assert rss.peak_bytes() == 700
    rss.start_again()
    assert rss.peak_bytes() == 700


def test_readings_are_named_as_the_table_names_them():
    with MemoryProbe("cpu", FakeGpu()) as probe:
        pass
    assert [reading.name for reading in probe.readings()] == list(MEMORY_READINGS)
    assert {reading.unit for reading in probe.readings()} == {"bytes"}


def test_the_device_beyond_idle_and_the_drivers_share_stand_beside_the_peaks():
    gpu = FakeGpu(used=300)
    idle = idle_bytes(gpu)
    gpu.used = 800
    with MemoryProbe("cpu", gpu, idle=idle) as probe:
        pass
    assert by_name(probe)["over_idle_peak_bytes"].value == 500
    assert by_name(probe)["driver_reserved_bytes"].value == 7


def test_what_this_process_used_before_is_no_idle_use():
    assert idle_bytes(FakeGpu(used=300), used_before=True).value == 150
    hidden = FakeGpu(used=300)
    hidden.fail = True
    assert "had used the GPU before" in idle_bytes(hidden, used_before=True).why_missing


def test_memory_that_others_gave_back_is_not_taken_off_the_candidate():
    gpu = FakeGpu(used=900)
    idle = idle_bytes(gpu)
    gpu.used = 300
    with MemoryProbe("cpu", gpu, idle=idle) as probe:
        pass
    assert "gave memory back" in by_name(probe)["over_idle_peak_bytes"].why_missing


def test_a_process_of_which_the_driver_reports_less_than_torch_holds_is_another_one():
    with simulated():
        block = torch.zeros(1000, device="cuda")
        with MemoryProbe("cuda", FakeGpu(used=8_000)) as first, MemoryProbe("cuda", FakeGpu(used=4_000)) as second:
            pass
        del block
    assert by_name(first)["nvml_process_peak_bytes"].why_missing.startswith("the driver reports 4000 bytes")
    assert by_name(first)["nvml_device_peak_bytes"].value == 8_000
    assert "torch alone holds 4096" in by_name(second)["nvml_device_peak_bytes"].why_missing


def test_without_an_idle_reading_the_difference_says_so():
    with MemoryProbe("cpu", FakeGpu()) as probe:
        pass
    assert "before the pipeline was loaded" in by_name(probe)["over_idle_peak_bytes"].why_missing
    assert idle_bytes("no driver").why_missing == "no driver"


def test_the_timeline_has_all_three_series_on_a_gpu_and_the_resident_set_alone_without():
    with MemoryProbe("cpu", FakeGpu()) as with_gpu, MemoryProbe("cpu", "none") as without:
        pass
    assert [s.name for s in with_gpu.timeline("a").series] == ["device_used", "process_used", "process_rss"]
    assert [s.name for s in without.timeline("a").series] == ["process_rss"]


def test_the_interpreters_switch_interval_is_put_back():
    import sys

    before = sys.getswitchinterval()
    with MemoryProbe("cpu", "none"):
        assert sys.getswitchinterval() < before
    assert sys.getswitchinterval() == before


def test_a_probe_that_still_runs_says_so():
    with MemoryProbe("cpu", "none") as probe:
        assert "still running" in by_name(probe)["process_rss_peak_bytes"].why_missing


def test_the_block_that_was_freed_again_is_in_the_process_peak():
    with MemoryProbe("cpu", "none") as small:
        pass
    with MemoryProbe("cpu", "none") as large:
        block = bytearray(64_000_000)
        del block
    grown = by_name(large)["process_rss_peak_bytes"].value - by_name(small)["process_rss_peak_bytes"].value
    assert grown > 40_000_000


def test_an_exception_inside_stops_the_thread():
    gpu = FakeGpu()
    with pytest.raises(RuntimeError), MemoryProbe("cpu", gpu):
        raise RuntimeError
    samples = gpu.samples
    time.sleep(0.02)
    assert gpu.samples == samples


def test_rss_is_polled_where_the_peak_cannot_be_reset(tmp_path):
    (tmp_path / "clear_refs").mkdir()
    status = tmp_path / "status"
    status.write_text("VmHWM:\t 900 kB\nVmRSS:\t 100 kB\n")
    rss = RssPeak(proc=tmp_path, platform="linux")
    rss.start()
    status.write_text("VmHWM:\t 900 kB\nVmRSS:\t 300 kB\n")
    rss.sample()
    status.write_text("VmHWM:\t 900 kB\nVmRSS:\t 200 kB\n")
    assert rss.peak_bytes() == 300 * 1024


def test_elsewhere_a_lifetime_peak_counts_only_when_it_rose():
    peaks = iter([500, 700, 700, 700])
    rss = RssPeak(platform="darwin", lifetime_peak=lambda: next(peaks))
    rss.start()
    assert rss.peak_bytes() == 700
    rss.start()
    with pytest.raises(NotMeasuredError, match="before the measurement"):
        rss.peak_bytes()
