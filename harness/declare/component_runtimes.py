"""What executes each component of a candidate, where one word does not say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from harness.declare.mixed import DENOISERS
from harness.declare.models import DENOISER

EAGER: Final = "eager"
"""The runtime of what is not declared."""
Runtimes: TypeAlias = str | Mapping[str, str]
_GRAPHS: Final = ("onnx", "onnx-ir", "onnxscript")
_ONNX: Final = (*_GRAPHS, "onnxruntime", "onnxruntime-gpu")  # either of the last two
PACKAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "onnxruntime": _ONNX, "onnxruntime_live": _ONNX, "openvino": (*_GRAPHS, "openvino"),
    "tensorrt": (*_GRAPHS, "tensorrt", "tensorrt-cu13", "tensorrt-cu12")}  # one or two of the last three
"""The packages of the built-in runtimes, whose versions change last bits and seconds."""


def denoiser_runtime(runtime: Runtimes) -> str:
    """What executes the denoiser."""
    if not isinstance(runtime, Mapping):
        return runtime
    return next((name for component, name in runtime.items() if component in DENOISERS), EAGER)


def runtimes_beside(runtime: Runtimes) -> dict[str, str]:
    """What executes the other components, by their names in their order; those in eager are left out."""
    if not isinstance(runtime, Mapping):
        return {}
    return {component: name for component, name in sorted(runtime.items()) if component not in DENOISERS and name != EAGER}


def runtime_of(runtime: Runtimes, component: str) -> str:
    """What executes one component."""
    return denoiser_runtime(runtime) if component in DENOISERS else runtimes_beside(runtime).get(component, EAGER)


def runtimes_in(runtime: Runtimes) -> tuple[str, ...]:
    """The names of all runtimes, each once; the denoiser's first. The fields may hold any object."""
    if not isinstance(runtime, Mapping):
        return (runtime,)
    return tuple(dict.fromkeys([denoiser_runtime(runtime), *runtime.values()]))


def in_one_spelling(runtime: Runtimes) -> Runtimes:
    """The same where several declarations say it: one word where no other component than the denoiser is out of eager."""
    beside = runtimes_beside(runtime)
    return {DENOISER: denoiser_runtime(runtime), **beside} if beside else denoiser_runtime(runtime)


def spelled_runtime(runtime: Runtimes) -> str:
    """In words, alike for every spelling: "onnxruntime", "denoiser onnxruntime, vae openvino"."""
    settled = in_one_spelling(runtime)
    if isinstance(settled, Mapping):
        return ", ".join(f"{component} {name}" for component, name in settled.items())
    return settled
