"""NVML's traps, with a fake binding: N/A, foreign process ids, double lists, MIG, vGPU, WSL, old drivers, no driver."""

import os
import platform

import pytest

from harness.probes import NotMeasuredError, find_gpu
from harness.probes.nvml import nvml_uuid
from tests.probes.fakes import OTHER_UUID, UUID, FakeNvml

OWN = [(os.getpid(), 300)]
INSTANCE = "1b2c3d4e-0000-5555-6666-777788889999"


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
        gpu(refuses=("TotalEnergyConsumption",)).energy_millijoules()


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


FIGURES = ("device_used_bytes", "process_used_bytes", "reserved_bytes", "energy_millijoules", "sm_clock_mhz",
           "memory_clock_mhz", "temperature_celsius", "clock_limits")
WHERE = {
    "a server": (FakeNvml(compute=OWN), set()),
    "WSL 2, which lists no processes": (FakeNvml(), {"process_used_bytes"}),
    "Windows, which gives no bytes": (FakeNvml(compute=[(os.getpid(), None)]), {"process_used_bytes"}),
    "a container with ids of its own": (FakeNvml(compute=[(1, 900)]), {"process_used_bytes"}),
    "a vGPU": (FakeNvml(compute=OWN, refuses=("TotalEnergyConsumption", "Temperature", "ThrottleReasons", "MigMode")),
               {"energy_millijoules", "temperature_celsius", "clock_limits"}),
    "a GPU before Volta": (FakeNvml(compute=OWN, refuses=("TotalEnergyConsumption",)), {"energy_millijoules"}),
    "a driver before 510": (FakeNvml(compute=OWN, refuses=("Processes", "MemoryInfo_v2")), {"reserved_bytes"}),
    "no list of graphics processes": (FakeNvml(compute=OWN, refuses=("GraphicsRunningProcesses",)), set()),
    "no lists at all": (FakeNvml(compute=OWN, refuses=("Processes", "Processes_v2")), {"process_used_bytes"}),
}
"""By the kind of machine, the driver and the figures that it does not give."""


@pytest.mark.parametrize("where", WHERE)
def test_every_figure_of_every_kind_of_machine_is_a_number_or_has_a_reason(where):
    nvml, missing = WHERE[where]
    found = find_gpu("cuda", nvml=nvml, uuid=UUID)
    for figure in FIGURES:
        if figure in missing:
            with pytest.raises(NotMeasuredError, match=r"\w+ \w+"):
                getattr(found, figure)()
        else:
            assert getattr(found, figure)() >= 0


@pytest.mark.parametrize(("system", "release", "words"), [
    ("Linux", "5.15.167.4-microsoft-standard-WSL2", "WSL 2 it keeps no such list"),
    ("Windows", "11", "WSL 2 it keeps no such list"), ("Linux", "6.8.0-45-generic", "--pid=host")])
def test_the_advice_for_a_missing_process_fits_the_system(system, release, words, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "release", lambda: release)
    with pytest.raises(NotMeasuredError, match=words):
        gpu().process_used_bytes()


def test_of_several_gpus_it_is_the_one_of_that_uuid():
    nvml = FakeNvml(used={UUID: 7_000, OTHER_UUID: 90})
    assert [find_gpu("cuda:1", nvml=nvml, uuid=uuid).device_used_bytes() for uuid in (UUID, OTHER_UUID)] == [7_000, 90]


@pytest.mark.parametrize(("visible", "of_torch", "uuid"), [
    ("", UUID, f"GPU-{UUID}"), ("0", UUID, f"GPU-{UUID}"), ("1,0", OTHER_UUID, f"GPU-{OTHER_UUID}"),
    (f"GPU-{OTHER_UUID}", OTHER_UUID, f"GPU-{OTHER_UUID}"), (f"MIG-{INSTANCE}", INSTANCE, f"MIG-{INSTANCE}"),
    (f"MIG-{INSTANCE}", UUID, f"MIG-{INSTANCE}"), (f"MIG-GPU-{UUID}/1/0", UUID, f"MIG-GPU-{UUID}/1/0")])
def test_whatever_cuda_visible_devices_names_it_is_the_device_that_torch_uses(visible, of_torch, uuid, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    instances = {visible: 500} if visible.startswith("MIG-") else {}
    found = find_gpu("cuda", nvml=FakeNvml(used={UUID: 7_000, OTHER_UUID: 90}, instances=instances), uuid=of_torch)
    assert (found.uuid, found.device_used_bytes()) == (uuid, 500 if instances else {UUID: 7_000, OTHER_UUID: 90}[of_torch])


def test_a_partitioned_card_whose_instance_is_unknown_is_a_reason_with_what_to_do(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "set CUDA_VISIBLE_DEVICES" in str(find_gpu("cuda", nvml=FakeNvml(mig=1), uuid=UUID))
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


def test_a_uuid_gets_its_prefix_once(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"MIG-{INSTANCE}")
    assert nvml_uuid(INSTANCE) == f"MIG-{INSTANCE}"
    assert nvml_uuid("MIG-1") == "MIG-1"
    assert nvml_uuid(nvml_uuid(UUID)) == f"GPU-{UUID}"
