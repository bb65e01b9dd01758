"""The probes on a real GPU; their fakes test the same logic everywhere else."""

import subprocess
import sys

import pytest

from harness.probes import MemoryProbe, PowerProbe, Stopwatch, find_gpu, fits, idle_bytes


@pytest.fixture
def torch():
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch


@pytest.mark.gpu
def test_every_gpu_peak_sees_a_tensor_or_says_why(torch):
    torch.zeros(1, device="cuda")
    with MemoryProbe("cuda", find_gpu("cuda")) as probe:
        block = torch.zeros(1 << 28, dtype=torch.uint8, device="cuda")
        del block
        torch.cuda.empty_cache()
    readings = {reading.name: reading for reading in probe.readings()}
    assert readings["torch_allocated_peak_bytes"].value >= 1 << 28
    for name in ("nvml_device_peak_bytes", "nvml_process_peak_bytes"):
        assert readings[name].why_missing or readings[name].value > 0


@pytest.mark.gpu
def test_a_phase_waits_for_the_kernels(torch):
    a = torch.randn(4096, 4096, device="cuda")
    a @ a  # cuBLAS starts with its first product
    watch = Stopwatch("cuda")
    with watch.phase("launch"):
        for _ in range(50):
            a = a @ a
            a = a / a.abs().max()
    with watch.phase("rest"):
        pass
    assert watch.seconds["launch"] > 10 * watch.seconds["rest"]


@pytest.mark.gpu
def test_events_and_the_hosts_clock_agree(torch):
    a = torch.randn(4096, 4096, device="cuda")
    a @ a  # cuBLAS starts with its first product
    by_events, by_host = Stopwatch("cuda"), Stopwatch("cuda", wait=lambda: torch.cuda.synchronize("cuda"))
    for watch in (by_events, by_host):
        with watch.phase("matmul"):
            lap = watch.laps("step")
            for _ in range(20):
                a @ a
                lap()
    assert by_events.seconds["matmul"] == pytest.approx(by_host.seconds["matmul"], rel=0.2)
    assert by_events.seconds["step"] <= by_events.seconds["matmul"] * 1.01


@pytest.mark.gpu
def test_the_drivers_figures_are_numbers_or_reasons(torch):
    gpu = find_gpu("cuda")
    a, probe = torch.randn(8192, 8192, device="cuda"), PowerProbe(gpu)
    with probe.during(images=1):
        for _ in range(200):
            a @ a
        torch.cuda.synchronize()
    for reading in probe.record("a").readings:
        assert reading.why_missing or reading.value > 0, reading
    if not isinstance(gpu, str):
        assert 0 <= gpu.reserved_bytes() < gpu.device_used_bytes()


@pytest.mark.gpu
def test_the_timeline_sees_a_block_come_and_go(torch):
    torch.zeros(1, device="cuda")
    gpu = find_gpu("cuda")
    if isinstance(gpu, str):
        pytest.skip(gpu)
    with MemoryProbe("cuda", gpu, idle=idle_bytes(gpu)) as probe:
        watch = Stopwatch("cuda")
        with watch.phase("switch"):
            block = torch.zeros(1 << 30, dtype=torch.uint8, device="cuda")
            torch.cuda.synchronize()
            for _ in range(100):
                block.add_(1)
        del block
        torch.cuda.empty_cache()
    timeline = probe.timeline("a", watch.spans)
    assert timeline.samples_per_second
    used = timeline.series[0].used_bytes
    assert max(used) - used[0] >= 1 << 30
    assert timeline.spans[0].end_seconds > timeline.spans[0].start_seconds >= 0


@pytest.mark.gpu
def test_a_cap_refuses_what_is_larger_and_is_lifted_again(torch):
    block = 1 << 30
    too_much = fits(lambda: torch.zeros(block, dtype=torch.uint8, device="cuda").sum().item(), candidate="a", device="cuda",
                    cap_bytes=block // 2)
    assert (too_much.fits, too_much.asked_bytes) == (False, block)
    assert fits(lambda: torch.zeros(block, dtype=torch.uint8, device="cuda").sum().item(), candidate="a", device="cuda").fits


@pytest.mark.gpu
def test_the_idle_use_is_read_before_this_process_has_a_context(torch):
    if isinstance(gpu := find_gpu("cuda"), str):
        pytest.skip(gpu)
    program = ("from harness.probes import find_gpu, idle_before_use\nimport torch\n"
               "idle = idle_before_use('cuda').value\ntorch.ones(1, device='cuda').add_(1).item()\n"
               "print(find_gpu('cuda').device_used_bytes() - idle)")
    grown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert float(grown) > 100 << 20  # a context takes some hundred MiB
