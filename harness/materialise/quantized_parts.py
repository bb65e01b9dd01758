"""The components of a live pipeline as quantized copies, made of weights that stay as they are for the next candidate."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.declare import Candidate
from harness.declare.mixed import Mode, beside_denoiser, of_denoiser, spelled
from harness.declare.models import DENOISER
from harness.materialise.library import MaterialiseError
from harness.materialise.live_model import Frame
from harness.materialise.number_format import computing_of
from harness.quantize import QUANTIZATION_MODES, QuantizeError, QuantizeReport
from harness.quantize.declared import made_on_host, make_on_host, only_casts, refuse_idle
from harness.records import Coverage
from harness.weights import Pipeline, with_part
from harness.weights.placing import move, own_tensors, sharing_copy

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class QuantizedPart:
    """How a component is quantized, and the report of it."""

    component: str
    mode: Mode
    report: QuantizeReport

    def coverage(self, candidate: str) -> Coverage:
        """The row with the status of every parameter."""
        keys = {"quantized": self.report.quantized, "kept": self.report.kept}
        return Coverage(candidate=candidate, stage=f"quantize {spelled(self.mode)}", component=self.component,
                        keys={status: names for status, names in keys.items() if names}, notes=self.report.notes)


def quantized(candidate: Candidate, frame: Frame, pipeline: Pipeline, *, lends_layers: bool) -> tuple[
        Pipeline, tuple[QuantizedPart, ...]]:
    """The pipeline of a candidate in its format with the components that are quantized as copies, the denoiser last.
    `lends_layers` leaves the denoiser on the host."""
    parts = []
    for component, mode in beside_denoiser(candidate.quantization).items():
        module, report = _copied(pipeline.parts[component], mode, computing_beside(pipeline.parts[component]),
                                 home=_device(pipeline.parts[component]))
        pipeline = with_part(pipeline, component, module)
        parts.append(QuantizedPart(component=component, mode=mode, report=report))
    mode = of_denoiser(candidate.quantization)
    if only_casts(mode):
        report = frame.number_format()
    else:
        home = _device(pipeline.denoiser) if lends_layers else pipeline.device
        if made_on_host(mode):
            module, report = _copied(pipeline.denoiser, mode, computing_of(candidate), home=home)
        else:
            module = copy.deepcopy(pipeline.denoiser).to(pipeline.device)
            report = QUANTIZATION_MODES[str(mode)].apply(module)
            module = module.to(home)
        pipeline = with_part(pipeline, frame.denoiser, module)
    return pipeline, (*parts, QuantizedPart(component=frame.denoiser, mode=mode, report=report))


def quantized_texts(candidate: Candidate) -> dict[str, Mode]:
    """How the text encoders are quantized, by component."""
    return {part: mode for part, mode in beside_denoiser(candidate.quantization).items() if part.startswith("text_encoder")}


def computing_beside(module: Any) -> str:
    """The dtype ("float32") in which a component beside the denoiser computes."""
    return str(next(module.parameters()).dtype).removeprefix("torch.")


def refuse_unknown(candidate: Candidate, components: Collection[str]) -> None:
    """Raises MaterialiseError for components in a declared quantization that the model does not have."""
    for component in candidate.quantization if isinstance(candidate.quantization, Mapping) else ():
        if component not in (DENOISER, *components):
            raise MaterialiseError(f"quantization names {component!r}, which the model does not have; expected one of "
                                   f"{', '.join(map(repr, sorted(components)))}")


def refuse_idle_parts(candidate: Candidate, shapes: Mapping[str, Any]) -> None:
    """Raises MaterialiseError for modes and patterns that find nothing to quantize in the model's components, which may be
    without values."""
    denoiser = "unet" if "unet" in shapes else "transformer"
    for component, mode in _each(candidate, denoiser):
        try:
            refuse_idle(shapes[component], mode)
        except QuantizeError as error:
            raise MaterialiseError(f"{component}: {error}") from error


def _each(candidate: Candidate, denoiser: str) -> Iterator[tuple[str, Mode]]:
    yield denoiser, of_denoiser(candidate.quantization)
    yield from beside_denoiser(candidate.quantization).items()


def _copied(module: Any, mode: Mode, computing: str, home: torch.device) -> tuple[Any, QuantizeReport]:
    """A quantized copy on a device, which shares no memory with the module."""
    import torch

    copied, host = sharing_copy(module), torch.device("cpu")
    if there := _device(module) != host:
        move(host, copied)
    report = make_on_host(copied, mode, computing)
    own_tensors(copied, () if there else report.kept)
    if home != host:
        move(home, copied)
    return copied, report


def _device(module: Any) -> torch.device:
    device: torch.device = next(module.parameters()).device
    return device
