"""The probes on a real GPU; their fakes test the same logic everywhere else."""

import pytest

from harness.probes import MemoryProbe, Stopwatch, find_gpu


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
    watch = Stopwatch("cuda")
    with watch.phase("launch"):
        for _ in range(50):
            a = a @ a
            a = a / a.abs().max()
    with watch.phase("rest"):
        pass
    assert watch.seconds["launch"] > 10 * watch.seconds["rest"]
