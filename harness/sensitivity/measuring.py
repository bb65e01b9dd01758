"""The error that each layer of a candidate's denoiser makes alone in a mode, layer by layer, with what was measured before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.declare.mixed import FULL
from harness.quantize import QUANTIZATION_MODES
from harness.run.progress import Display
from harness.sensitivity.gauges import gauge_of
from harness.sensitivity.progress_file import ErrorFile, Errors, Key
from harness.sensitivity.recipe import LayerOptions, Option, refuse_budget
from harness.sensitivity.subject import Subject, SubjectError
from harness.sensitivity.swapping import InMode, in_mode, parameters_of, swapped

VERSION: Final = 2
"""Increased when the same candidate gets other errors."""


@dataclass(frozen=True, kw_only=True)
class Gauging:
    """What errors are of, PROBE or PICTURES, and the ids of the prompts that they are measured on."""

    kind: str
    prompts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The layers of a denoiser in the model's order, each with its bytes and its error alone in every mode. `plain` are the bytes
    of the weights as they were. `kept` are by mode the layers that it leaves as they are, and `notes` what it says of itself;
    `file` is where the errors are kept."""

    layers: tuple[LayerOptions, ...]
    plain: Mapping[str, int]
    kept: Mapping[str, tuple[str, ...]]
    notes: Mapping[str, tuple[str, ...]]
    file: ErrorFile


def measured(subject: Subject, modes: Sequence[str], gauging: Gauging, out: Path | None, progress: Display, *,
             bits: float | None = None) -> Measured:
    """Every layer alone in each of these modes. What `out` holds of an earlier, stopped measurement is taken over, and each error
    is written there as it is known. Raises BudgetError for `bits` that decide nothing, before anything is measured."""
    prepared = subject.prepared()
    denoiser = prepared.pipeline.denoiser
    parameters = parameters_of(denoiser)
    key = key_of(subject, modes, gauging)
    file = ErrorFile(out, key, parameters)
    errors = file.errors
    by_mode = {mode: in_mode(denoiser, mode, subject.computing) for mode in modes}
    if bits is not None:
        refuse_budget(_options(parameters, by_mode, {mode: dict.fromkeys(parameters, 0.0) for mode in modes}), bits)
    progress.expect(len(modes) * len(parameters))
    gauge = None
    for mode, name in ((mode, name) for mode in modes for name in parameters):
        if name not in (layers := by_mode[mode].layers):
            errors[mode][name] = 0.0  # it is as it was
        elif name not in errors[mode]:
            gauge = gauge or gauge_of(gauging.kind, subject, prepared, gauging.prompts)
            with swapped(denoiser, name, layers[name]):
                errors[mode][name] = _finite(gauge.error(), name, mode)
            file.save()
        progress.advance(1, f"{mode}: {name}")
    return Measured(layers=_options(parameters, by_mode, errors), plain=in_mode(denoiser, FULL, subject.computing).bytes,
                    notes={mode: of.notes for mode, of in by_mode.items()}, file=file,
                    kept={mode: tuple(name for name in parameters if name not in of.layers) for mode, of in by_mode.items()})


def key_of(subject: Subject, modes: Sequence[str], gauging: Gauging) -> Key:
    """What decides the errors."""
    return Key(identity=subject.identity(), kind=gauging.kind, prompts=gauging.prompts, version=VERSION,
               modes={mode: QUANTIZATION_MODES.identity(mode) for mode in modes})


def _options(parameters: Mapping[str, int], by_mode: Mapping[str, InMode], errors: Errors) -> tuple[LayerOptions, ...]:
    return tuple(LayerOptions(name=name, parameters=count, options={
        mode: Option(bytes=of.bytes[name], error=errors[mode][name]) for mode, of in by_mode.items()})
        for name, count in parameters.items())


def _finite(error: float, name: str, mode: str) -> float:
    if not error < float("inf"):  # a NaN too
        raise SubjectError(f"{name} in {mode}: the denoiser's output is not finite. Choose another mode, or leave the layer as "
                           "it is with Mixed")
    return error
