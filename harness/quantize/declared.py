"""What a declared quantization asks for: rows of the table, for a whole component or layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Final

from harness.declare.mixed import FULL, Mixed, Mode, Quantization, modes_in, spelled
from harness.declare.nearest import did_you_mean
from harness.quantize import LIVE_DTYPES, MADE_ON_HOST, QUANTIZATION_MODES, QuantizeError, QuantizeReport
from harness.quantize.by_layer import quantizable, quantize_layers

if TYPE_CHECKING:
    import torch

MIXED_VERSION: Final = 1
"""Increased when the same Mixed gives other weights."""


def made_on_host(mode: Mode) -> bool:
    """Whether a quantized copy of the component is made on the CPU, from weights that stay as they are."""
    return isinstance(mode, Mixed) or mode in MADE_ON_HOST


def only_casts(mode: Mode) -> bool:
    """Whether the live weights are kept in the dtype of the mode."""
    return not isinstance(mode, Mixed) and mode in LIVE_DTYPES


def make_on_host(module: torch.nn.Module, mode: Mode, computing: str) -> QuantizeReport:
    """Quantizes a module in place, which then computes in a dtype ("float16"). Raises QuantizeError where nothing is
    quantized."""
    if isinstance(mode, Mixed):
        return quantize_layers(module, _layers_of(module, mode), computing)
    return MADE_ON_HOST[mode](module, computing)


def refuse_idle(module: torch.nn.Module, mode: Mode) -> None:
    """Raises QuantizeError for a mode of single layers that finds none in a module, which may be without values, and for a
    pattern that matches none."""
    if isinstance(mode, Mixed):
        _layers_of(module, mode)
    elif mode in MADE_ON_HOST and not quantizable(module):
        raise QuantizeError(f"{mode} finds no linear or convolution layer to quantize")


def problems(quantization: Quantization, device: str) -> Iterator[str]:
    """Why a device does not offer what is asked for."""
    for mode in modes_in(quantization):
        if reason := QUANTIZATION_MODES[mode].why_not(device):
            yield f"number format {mode!r} on {device}: {reason}"


def identity_of(quantization: Quantization) -> object:
    """What the results of a quantization are known by beside its declaration."""
    if isinstance(quantization, str):
        return _identity(quantization)
    return [MIXED_VERSION, *([mode, _identity(mode)] for mode in sorted(modes_in(quantization)))]


def _identity(mode: str) -> object:
    identity, package = QUANTIZATION_MODES.identity(mode), QUANTIZATION_MODES[mode].values_of
    if not package:
        return identity
    try:
        return [identity, f"{package} {metadata.version(package)}"]
    except metadata.PackageNotFoundError:
        return [identity, f"{package} not installed"]


def _layers_of(module: torch.nn.Module, mixed: Mixed) -> dict[str, str]:
    """The mode of each layer that is quantized, by its path."""
    names = {path: f"{path.removesuffix('.base_layer')}.weight" for path in quantizable(module)}
    for pattern in mixed.keys:
        alone = Mixed(default="", keys={pattern: "matched"})
        if not any(alone.mode_of(name) for name in names.values()):
            others = [name.removesuffix(".base_layer") for name, _ in module.named_parameters() if alone.mode_of(name)]
            why = (f"matches only weights that no mode quantizes, such as {others[0]!r}" if others else
                   f"matches no weight of a layer; {did_you_mean(pattern, names.values())}")
            raise QuantizeError(f"{spelled(mixed)}: the pattern {pattern!r} {why}")
    return {path: mode for path, name in names.items() if (mode := mixed.mode_of(name)) != FULL}
