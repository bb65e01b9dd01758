"""NVML's traps, with a fake binding: N/A, foreign process ids, double lists, MIG, no driver."""

import os
from types import SimpleNamespace

import pytest

from harness.probes import NotMeasuredError, find_gpu
from harness.probes.nvml import nvml_uuid

UUID = "8a5f0c1e-0000-1111-2222-333344445555"


class FakeError(Exception):
    pass


class FakeLibraryNotFoundError(FakeError):
    pass


class FakeNvml:
    """One GPU, reachable by UUID only; lists of (pid, bytes) for compute and graphics."""

    NVMLError, NVMLError_LibraryNotFound = FakeError, FakeLibraryNotFoundError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU, nvmlMemory_v2 = 1, 2, 0, 0x02000028  # noqa: N815 - the binding's name

    def __init__(self, compute=(), graphics=(), mig=None, installed=True, before_volta=False):
        self.compute, self.graphics, self.mig, self.installed = compute, graphics, mig, installed
        self.before_volta = before_volta

    def nvmlInit(self):  # noqa: N802 - the binding's name
        if not self.installed:
            raise FakeLibraryNotFoundError

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802 - the binding's name
        if uuid != f"GPU-{UUID}":
            raise FakeError(f"no device {uuid}")
        return "handle"

    def nvmlDeviceGetMigMode(self, handle):  # noqa: N802 - the binding's name
        if self.mig is None:
            raise FakeError("Not Supported")
        return [self.mig, self.mig]

    def nvmlDeviceGetName(self, handle):  # noqa: N802 - the binding's name
        return b"Fake H1"

    def nvmlSystemGetDriverVersion(self):  # noqa: N802 - the binding's name
        return "570.1"

    def nvmlDeviceGetMemoryInfo(self, handle, version=None):  # noqa: N802 - the binding's name
        if version == self.nvmlMemory_v2:
            return SimpleNamespace(used=6_400, reserved=600)
        return SimpleNamespace(used=7_000)

    def nvmlDeviceGetClockInfo(self, handle, which):  # noqa: N802 - the binding's name
        return {self.NVML_CLOCK_SM: 1980, self.NVML_CLOCK_MEM: 2619}[which]

    def nvmlDeviceGetTemperature(self, handle, sensor):  # noqa: N802 - the binding's name
        return 41

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802 - the binding's name
        if self.before_volta:
            raise FakeError("Not Supported")
        return 123_000

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):  # noqa: N802 - the old name, all that this one has
        return 0x4

    def nvmlDeviceGetComputeRunningProcesses(self, handle):  # noqa: N802 - the binding's name
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.compute]

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle):  # noqa: N802 - the binding's name
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.graphics]


def gpu(**fake):
    found = find_gpu("cuda:0", nvml=FakeNvml(**fake), uuid=UUID)
    assert not isinstance(found, str)
    return found


def test_the_device_is_found_by_uuid_and_described():
    found = gpu()
    assert (found.uuid, found.name, found.driver) == (f"GPU-{UUID}", "Fake H1", "570.1")
    assert found.device_used_bytes() == 7_000


def test_what_the_driver_keeps_is_in_the_devices_use_and_apart():
    assert (gpu().device_used_bytes(), gpu().reserved_bytes()) == (7_000, 600)


def test_energy_clocks_and_temperature_come_in_the_bindings_units():
    found = gpu()
    assert (found.energy_millijoules(), found.sm_clock_mhz(), found.memory_clock_mhz()) == (123_000, 1980, 2619)
    assert found.temperature_celsius() == 41


def test_an_old_driver_is_asked_by_the_old_name():
    assert gpu().clock_limits() == 0x4


def test_energy_before_volta_is_a_reason():
    with pytest.raises(NotMeasuredError, match=r"from Volta on.*Not Supported"):
        gpu(before_volta=True).energy_millijoules()


def test_a_query_that_the_binding_lacks_is_a_reason(monkeypatch):
    monkeypatch.delattr(FakeNvml, "nvmlDeviceGetTemperature")
    with pytest.raises(NotMeasuredError, match="nvmlDeviceGetTemperature is missing"):
        gpu().temperature_celsius()


def test_a_torch_without_the_device_is_a_reason():
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU; test_gpu.py asks it")
    assert "torch does not say which GPU" in str(find_gpu("cuda", nvml=FakeNvml()))


def test_a_process_in_both_lists_is_counted_once():
    assert gpu(compute=[(os.getpid(), 300)], graphics=[(os.getpid(), 310)]).process_used_bytes() == 310


def test_other_processes_do_not_count():
    assert gpu(compute=[(1, 900), (os.getpid(), 300)]).process_used_bytes() == 300


@pytest.mark.parametrize(("compute", "words"), [
    ([(os.getpid(), None)], "N/A"),
    ([(1, 900)], "--pid=host"),
    ([], "0 processes"),
    ([(os.getpid(), 0)], "0 bytes"),
])
def test_an_unknown_process_figure_is_a_reason(compute, words):
    with pytest.raises(NotMeasuredError, match=words):
        gpu(compute=compute).process_used_bytes()


def test_a_partitioned_card_is_a_reason():
    assert "MIG" in str(find_gpu("cuda", nvml=FakeNvml(mig=1), uuid=UUID))
    assert not isinstance(find_gpu("cuda", nvml=FakeNvml(mig=0), uuid=UUID), str)


def test_no_driver_and_no_such_device_are_reasons():
    assert "no NVIDIA driver" in str(find_gpu("cuda", nvml=FakeNvml(installed=False), uuid=UUID))
    assert "no device GPU-other" in str(find_gpu("cuda", nvml=FakeNvml(), uuid="other"))


def test_the_real_binding_imports_without_warning_and_gives_a_gpu_or_a_reason():
    pytest.importorskip("pynvml")
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU; test_gpu.py asks it")
    assert isinstance(find_gpu("cuda", uuid=UUID), str)


def test_the_cpu_is_not_asked():
    assert find_gpu("cpu") == "device cpu is not an NVIDIA GPU"


def test_a_uuid_gets_its_prefix_once():
    assert nvml_uuid("MIG-1") == "MIG-1"
    assert nvml_uuid(nvml_uuid(UUID)) == f"GPU-{UUID}"
