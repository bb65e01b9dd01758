"""What a machine's GPU, driver and installed packages cannot do is said before anything is loaded, in words that help."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from harness.probes.device import device_problem
from harness.probes.environment import environment
from harness.probes.fits import cap_where_memory_spills, out_of_memory
from harness.quantize import QUANTIZATION_MODES
from harness.runtimes import RUNTIMES
from harness.sampling import set_determinism, setting
from tests import test_gpu
from tests.fakes import PROMPTS, plain_candidate, tiny_grid, tiny_suite
from tests.merge import test_methods
from tests.rehearsal.simulated_cuda import simulated

OLD_DRIVER = "The NVIDIA driver on your system is too old (found version 12040).\nPlease update your GPU driver"
NO_KERNEL = "CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might be ..."


@pytest.fixture
def gpu() -> Iterator[None]:
    with simulated():
        yield


@pytest.mark.usefixtures("gpu")
def test_a_device_that_computes_is_no_problem() -> None:
    assert device_problem("cuda") == device_problem("cuda:0") == ""
    assert "sees 1 CUDA devices" in device_problem("cuda:1")


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("words", [OLD_DRIVER, NO_KERNEL])
def test_a_driver_or_a_gpu_that_does_not_fit_is_quoted_in_one_line(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(torch, "ones", refuse)
    problem = device_problem("cuda")
    assert words.splitlines()[0] in problem
    assert "leave the device out" in problem
    assert "\n" not in problem


def test_a_torch_without_cuda_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "installed without CUDA" in device_problem("cuda")
    assert device_problem("cpu") == ""


def choose_old() -> None:
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("medium")


def choose_each() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]


def choose_all() -> None:
    torch.backends.fp32_precision = "tf32"  # type: ignore[attr-defined]


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("choose", [choose_old, choose_each, choose_all])
def test_float32_means_float32_whatever_a_suite_chose_and_every_flag_can_be_read(choose: Callable[[], None]) -> None:
    choose()
    assert environment("cuda")["flags"]
    set_determinism("cuda")
    flags = environment("cuda")["flags"]
    assert (flags["float32_matmul_precision"], flags["cudnn_allow_tf32"]) == ("highest", False)
    assert torch.backends.cuda.matmul.fp32_precision == torch.backends.cudnn.conv.fp32_precision == "ieee"
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_the_arithmetic_of_cuda_is_part_of_its_keys_and_those_of_the_cpu_stay() -> None:
    assert set(setting(tiny_grid(), "cuda:0")) - set(setting(tiny_grid(), "cpu")) == {"arithmetic"}
    before = environment("cpu")["flags"]
    set_determinism("cpu")
    assert environment("cpu")["flags"] == before | {"cudnn_deterministic": True}  # recorded, and part of keys


@pytest.mark.parametrize("words", [
    "GET was unable to find an engine to execute this computation", "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling ...",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED", "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"])
def test_libraries_that_find_no_memory_are_understood_where_it_is_scarce(words: str) -> None:
    with simulated():
        assert out_of_memory(RuntimeError(words), "cuda") is None
    with simulated(limit=2 ** 30, devices=2):
        full = torch.zeros(2 ** 28 // 2, device="cuda:1")
        assert out_of_memory(RuntimeError(words), "cuda:1") is not None
        # Another GPU's memory, or a GPU's in a run on the CPU, explains nothing.
        assert out_of_memory(RuntimeError(words), "cuda:0") is None
        assert out_of_memory(RuntimeError(words), "cpu") is None
        assert full.device.index == 1
    assert out_of_memory(RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"), "cuda") is not None


@pytest.mark.parametrize(("release", "capped"), [("5.15.167.4-microsoft-standard-WSL2", True), ("6.8.0-generic", False)])
def test_where_the_driver_would_use_the_hosts_memory_torch_is_capped_at_what_is_free(
        release: str, capped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    with simulated(limit=2 ** 33) as gpu:
        held = torch.zeros(2 ** 20, device="cuda:0")
        said = cap_where_memory_spills("cuda")
        assert cap_where_memory_spills("cpu") == ""
        assert ("at most 7.5 GiB of the GPU's 8.0 GiB" in said) is capped
        assert gpu.cap == (2 ** 33 - 2 ** 29 if capped else 2 ** 33)
        assert held.device == gpu.device


@pytest.mark.parametrize(("capability", "offered"), [((7, 5), False), ((8, 0), True)])
def test_bfloat16_is_offered_only_where_the_gpu_has_it(capability: tuple[int, int], offered: bool) -> None:
    with simulated(capability=capability):
        assert (QUANTIZATION_MODES["bf16"].why_not("cuda:0") == "") is offered
        assert QUANTIZATION_MODES["fp16"].why_not("cuda:0") == ""


def test_compiling_for_a_gpu_needs_triton_a_compiler_and_pythons_headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    why_not = RUNTIMES["compiled"].why_not
    monkeypatch.setattr("harness.runtimes.compiling.find_spec", lambda _: None)
    assert "triton" in why_not("cuda")
    monkeypatch.setattr("harness.runtimes.compiling.find_spec", lambda _: True)
    monkeypatch.setattr("harness.runtimes.compiling.sysconfig.get_paths", lambda: {"include": str(tmp_path)})
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("harness.runtimes.compiling.shutil.which", lambda _: None)
    assert "C compiler" in why_not("cuda")
    monkeypatch.setenv("CC", "cc")
    assert "Python.h" in why_not("cuda")
    (tmp_path / "Python.h").touch()
    assert why_not("cuda") == ""


@pytest.mark.usefixtures("gpu")
def test_the_tests_of_a_gpu_pass_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = tiny_grid(prompts=PROMPTS[2:4])  # one to select by, one to confirm with
    small = tiny_suite(candidates=(plain_candidate(),), baseline="photo", latency_rounds=1, grid=grid)
    monkeypatch.setattr(test_gpu, "tiny_suite", lambda: small)
    test_gpu.test_a_suite_runs_on_cuda_and_its_memory_figures_are_numbers(tmp_path)
    for name in ("slerp", "ties"):
        test_methods.test_cuda_gives_what_the_cpu_gives_to_one_last_place(name)
