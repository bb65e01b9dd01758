"""What is wrong with how a candidate says that its components are quantized, before any file is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.check.phrases import unknown
from harness.declare import Candidate, Ensemble, Relay
from harness.declare.mixed import COMPONENTS, DENOISERS, Mixed, Mode, beside_denoiser, modes_in
from harness.quantize import MADE_ON_HOST, QUANTIZATION_MODES


def quantization_problems(candidate: Candidate) -> Iterator[str]:
    """One phrase per problem."""
    quantization = candidate.quantization
    if unknown_modes := [reason for mode in modes_in(quantization) if (reason := QUANTIZATION_MODES.why_not(mode))]:
        yield from unknown_modes
        return
    if isinstance(quantization, Mixed):
        yield from _mixed(quantization)
    if isinstance(quantization, Mapping):
        yield from _by_component(candidate, quantization)


def _mixed(mixed: Mixed) -> Iterator[str]:
    if other := [mode for mode in modes_in(mixed) if mode not in MADE_ON_HOST and mode != "fp32"]:
        yield (f"quantization mixes {other[0]!r}, which is not a mode of single layers; expected \"fp32\" or one of "
               f"{', '.join(MADE_ON_HOST)}")
    elif not any(mode in MADE_ON_HOST for mode in modes_in(mixed)):
        yield "quantization is a Mixed that quantizes no layer; give a mode in default or in keys, or remove it"


def _by_component(candidate: Candidate, modes: Mapping[str, Mode]) -> Iterator[str]:
    if not modes:
        yield "quantization is a mapping that names no component; give it one, such as {'unet': 'nf4'}, or remove it"
    yield from unknown("component in quantization", modes, COMPONENTS)
    if len(named := [component for component in modes if component in DENOISERS]) > 1:
        yield f"quantization names the denoiser {len(named)} times, as {' and '.join(map(repr, named))}; name it once"
    for mode in modes.values():
        yield from _mixed(mode) if isinstance(mode, Mixed) else ()
    beside = beside_denoiser(modes)
    for component, mode in beside.items():
        if isinstance(mode, str) and mode not in MADE_ON_HOST:
            yield (f"quantization of {component} is {mode!r}; expected a mode that quantizes weights: {', '.join(MADE_ON_HOST)}")
    if beside and isinstance(candidate.model, Relay | Ensemble):
        yield (f"quantization names {', '.join(map(repr, beside))} of a {type(candidate.model).__name__.lower()}, whose models "
               "share such components; quantize the denoiser alone, or measure the models one by one")
    if candidate.aesthetic is not None and any(component.startswith("text_encoder") for component in beside):
        yield "an aesthetic gradient trains the text encoder, which cannot be quantized then; remove one of the two"
