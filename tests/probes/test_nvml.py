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

    def __init__(self, compute=(), graphics=(), mig=None, installed=True):
        self.compute, self.graphics, self.mig, self.installed = compute, graphics, mig, installed

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

    def nvmlDeviceGetMemoryInfo(self, handle):  # noqa: N802 - the binding's name
        return SimpleNamespace(used=7_000)

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
