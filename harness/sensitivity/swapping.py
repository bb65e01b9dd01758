"""Single layers of a live denoiser in another mode, and afterwards as they were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.declare.mixed import FULL
from harness.quantize import QuantizeReport, stored_bytes
from harness.quantize.by_layer import quantizable
from harness.quantize.declared import make_on_host
from harness.weights.placing import move, sharing_copy


@dataclass(frozen=True, kw_only=True)
class InMode:
    """The layers that a mode quantizes, by the name of their weight, each as a module that can stand in for the live one. `bytes`
    are those of every quantizable weight, of the ones that the mode keeps as they are. `notes` are those of the report."""

    layers: Mapping[str, Any]
    bytes: Mapping[str, int]
    notes: tuple[str, ...] = ()


def weight_paths(denoiser: Any) -> dict[str, str]:
    """The paths of the layers that modes quantize, by the names that weights have in a Mixed."""
    return {f"{path.removesuffix('.base_layer')}.weight": path for path in quantizable(denoiser)}


def parameters_of(denoiser: Any) -> dict[str, int]:
    """How many weights each of these layers has."""
    return {name: denoiser.get_parameter(f"{path}.weight").numel() for name, path in weight_paths(denoiser).items()}


def in_mode(denoiser: Any, mode: str, computing: str) -> InMode:
    """The layers of a live denoiser in a mode, made of its weights, which stay as they are. Raises QuantizeError for a mode that
    quantizes none."""
    import torch

    paths = weight_paths(denoiser)
    plain = {name: _weight_bytes(denoiser.get_submodule(path)) for name, path in paths.items()}
    if mode == FULL:
        return InMode(layers={}, bytes=plain)
    home = next(denoiser.parameters()).device
    copied, host = sharing_copy(denoiser), torch.device("cpu")
    if home != host:
        move(host, copied)
    report: QuantizeReport = make_on_host(copied, mode, computing)
    if home != host:
        move(home, copied)
    quantized = {*report.quantized}
    layers = {name: copied.get_submodule(path) for name, path in paths.items() if f"{path}.weight" in quantized}
    return InMode(layers=layers, bytes=plain | {name: _weight_bytes(layer) for name, layer in layers.items()},
                  notes=report.notes)


@contextmanager
def swapped(denoiser: Any, name: str, layer: Any) -> Iterator[None]:
    """Within the block, a layer stands in the place of the one whose weight has this name."""
    path = weight_paths(denoiser)[name]
    original = denoiser.get_submodule(path)
    denoiser.set_submodule(path, layer)
    try:
        yield
    finally:
        denoiser.set_submodule(path, original)


def _weight_bytes(layer: Any) -> int:
    bias = getattr(layer, "bias", None)
    return stored_bytes(layer) - (0 if bias is None else stored_bytes(tensors=[bias]))
