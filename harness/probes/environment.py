"""Where a run took place: machine, device, versions, commit and numeric flags, as plain JSON.

Figures of two environments are not compared as if they were one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

PACKAGES: Final = ("sweetspot", "torch", "diffusers", "transformers", "accelerate", "peft", "torchao", "open_clip_torch",
                   "torchmetrics", "scikit-learn", "scipy", "numpy", "pillow", "safetensors", "nvidia-ml-py", "pytest",
                   "pytest-benchmark", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt",
                   "tensorrt-cu13", "tensorrt-cu12", "sdnq")


VARIABLES: Final = ("ATEN_CPU_CAPABILITY", "DNNL_MAX_CPU_ISA", "ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "MKL_CBWR",
                    "MKL_DEBUG_CPU_TYPE", "MKL_ENABLE_INSTRUCTIONS", "OPENBLAS_CORETYPE", "CUBLAS_WORKSPACE_CONFIG",
                    "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")
"""Variables of the process that choose other instructions, and so other last bits and another speed."""
_DECIDING_PACKAGES: Final = ("torch", "diffusers", "transformers", "peft", "torchao")


def deciding_pixels(facts: Mapping[str, Any], runtime: Collection[str] = ()) -> dict[str, Any]:
    """What of an environment can change the last bits of an image. A fact that newer versions added is in it only where it says
    something, so that earlier keys stay valid. `runtime` are the packages of the runtime that makes the image."""
    packages = _packages_of(facts)
    deciding = {"packages": {name: packages.get(name) for name in (*_DECIDING_PACKAGES, *runtime)}, **{
        name: facts.get(name) for name in ("device_name", "cpu", "cuda", "cudnn", "flags", "threads_per_operation")}}
    if variables := facts.get("variables"):
        deciding["variables"] = variables
    # With a GPU too the host draws the noise, and computes merged, adapted and quantized weights.
    if on_gpu(facts):
        deciding["cpu_capability"] = facts.get("cpu_capability")
    # How a sum is shared out among threads shows in its last bits.
    if facts.get("threads_per_operation") != 1:
        deciding["torch_threads"] = facts.get("torch_threads")
    return deciding


def deciding_seconds(facts: Mapping[str, Any], runtime: Collection[str] = ()) -> dict[str, Any]:
    """What of an environment can change how long an image takes: all that can change its pixels, and the product's version, the
    driver, the device itself, the processor and the number of threads. `runtime` are the packages of the runtime that makes the
    image."""
    pixels = {name: value for name, value in deciding_pixels(facts, runtime).items() if name != "cpu_capability"}
    return pixels | {"sweetspot": _packages_of(facts).get("sweetspot"), **{
        name: facts.get(name) for name in ("cpu", "device", "device_uuid", "driver", "cores", "torch_threads")}}


def on_gpu(facts: Mapping[str, Any]) -> bool:
    """Whether an environment is one of a CUDA device."""
    return str(facts.get("device")).partition(":")[0] == "cuda"


def _packages_of(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """The versions of packages, empty where run.json was edited."""
    packages = facts.get("packages")
    return packages if isinstance(packages, Mapping) else {}


def environment(device: str = "cpu", folder: Path | None = None) -> dict[str, Any]:
    """JSON-ready facts. A fact that could not be determined is under "missing" with its reason, and nowhere else.

    The commit is that of `folder` (by default the working directory).
    """
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": _packages(),
        "device": device,
    }
    if variables := {name: os.environ[name] for name in VARIABLES if name in os.environ}:
        facts["variables"] = variables
    missing: dict[str, str] = {}
    for part in (_cpu(Path("/proc/cpuinfo")), _git(folder or Path.cwd()), _torch(), _gpu(device)):
        missing |= part.pop("missing", {})
        facts |= part
    return facts | {"missing": missing}


def _packages() -> dict[str, str]:
    return {package: _version(package) for package in PACKAGES}


@cache
def _version(package: str) -> str:
    """Asked once in a process: what is imported stays what it is, and reading a package's description takes milliseconds."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def processor(info: Path = Path("/proc/cpuinfo")) -> str | None:
    """The processor's name; None if this system does not tell it."""
    return _cpu(info).get("cpu")


def _cpu(info: Path) -> dict[str, Any]:
    try:
        lines = info.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.processor()
    return {"cpu": model} if model else {"missing": {"cpu": "this system does not tell the processor's name"}}


def _git(folder: Path) -> dict[str, Any]:
    try:
        commit = _command(folder, "git", "rev-parse", "HEAD")
        dirty = bool(_command(folder, "git", "status", "--porcelain"))
    except FileNotFoundError:
        return {"missing": {"git_commit": "git is not installed"}}
    except (subprocess.SubprocessError, OSError) as error:
        message = getattr(error, "stderr", "") or str(error)
        return {"missing": {"git_commit": message.strip().splitlines()[0] if message.strip() else "git failed"}}
    return {"git_commit": commit, "git_dirty": dirty}


def _command(folder: Path, *words: str) -> str:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=20, check=True)
    return done.stdout.strip()


def _torch() -> dict[str, Any]:
    if "torch" not in sys.modules:
        return {"missing": {"torch_threads": "torch was not imported", "flags": "torch was not imported"}}
    import torch

    of_cudnn: Any = torch.backends.cudnn  # its parts are newer than the oldest torch that is allowed
    return {
        "torch_threads": torch.get_num_threads(),
        "cuda": torch.version.cuda or "built without CUDA",
        "cudnn": _cudnn(torch),
        "flags": {
            "float32_matmul_precision": _flag(torch.get_float32_matmul_precision, lambda: torch.backends.cuda.matmul),
            "cudnn_allow_tf32": _flag(lambda: torch.backends.cudnn.allow_tf32, lambda: of_cudnn.conv),
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        },
    }


def _flag(read: Callable[[], Any], where: Callable[[], Any]) -> Any:
    """A flag about TF32, or the `fp32_precision` that replaced it where that was set: the older one then cannot be read."""
    try:
        return read()
    except RuntimeError:
        return f"fp32_precision {where().fp32_precision}"


def _cudnn(torch: Any) -> int | str:
    version: int | None = torch.backends.cudnn.version() if torch.cuda.is_available() else None
    return version or "no CUDA device"


def _gpu(device: str) -> dict[str, Any]:
    from harness.probes.nvml import find_gpu, nvml_uuid

    if not device.startswith("cuda"):
        return {"device_name": "CPU"}
    import torch

    properties = torch.cuda.get_device_properties(device)
    known = {"device_name": properties.name, "device_uuid": nvml_uuid(str(properties.uuid)),
             "device_total_bytes": properties.total_memory, "cpu_capability": torch.backends.cpu.get_cpu_capability()}
    gpu = find_gpu(device)
    if not isinstance(gpu, str):
        known["device_uuid"] = gpu.uuid
    return known | ({"missing": {"driver": gpu}} if isinstance(gpu, str) else {"driver": gpu.driver})
