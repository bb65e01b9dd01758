"""Weights stored as fp8 codes with a scale: which tensor scales which, and whether the values are codes times scale. ComfyUI and
other tools describe this in tensors beside the weights, in the file's header, or not at all."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.weights.codes import INSTEAD
from harness.weights.comfy_layers import DESCRIBED, FP8, HEADER, NEUTRAL, READ, described_layers
from harness.weights.files import ModelFileError, TensorFile
from harness.weights.header_claims import short

_SCALES: Final = (".scale_weight", ".weight_scale")
_MOST_BYTES: Final = 4096
SCALE_ENDINGS: Final = (*_SCALES, ".scale_input", ".input_scale", DESCRIBED, "scaled_fp8")
"""Endings of the tensors that only belong to scaled weights, and go with them when these are multiplied out."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A stored tensor: the file and its name there."""

    file: TensorFile
    source: str


def scales_of(path: Path, component: str, places: Mapping[str, Place]) -> dict[str, str]:
    """{name of a weight: name of its scale} of one component. Raises ModelFileError for a scale without its weight, a weight with
    two scales or, beside others, none, and, naming it, for a format whose values are not codes times scale."""
    where = f"{path}: {component}"
    _refuse_other_formats(where, places)
    scales: dict[str, str] = {}
    for name in places:
        if not (ending := next((ending for ending in _SCALES if name.endswith(ending)), "")):
            continue
        weight = f"{name.removesuffix(ending)}.weight"
        if weight not in places:
            raise ModelFileError(f"{where}: {places[name].source!r} is the scale of {weight!r}, which the file lacks; expected "
                                 "both. Download it again.")
        if weight in scales:
            raise ModelFileError(f"{where}: {places[name].source!r} and {places[scales[weight]].source!r} both scale {weight!r}; "
                                 "expected one scale. Give the unquantized model.")
        dtype = places[weight].file.stored[places[weight].source].dtype
        if ending == ".weight_scale" and dtype not in FP8:
            raise ModelFileError(f"{where}: {places[weight].source!r} is stored as {dtype} codes with a scale; expected "
                                 f"{' or '.join(FP8)}. Give the unquantized model.")
        scales[weight] = name
    _refuse_without_scale(where, places, scales)
    return scales


def _refuse_without_scale(where: str, places: Mapping[str, Place], scales: Mapping[str, str]) -> None:
    """Raises ModelFileError for codes of a layer without a scale beside others that have one: tools scale all or none."""
    for name, place in places.items():
        stored = place.file.stored[place.source]
        if scales and name not in scales and name.endswith(".weight") and stored.dtype in FP8 and len(stored.shape) > 1:
            other = next(iter(scales.values()))
            raise ModelFileError(f"{where}: {place.source!r} is {stored.dtype} codes without a scale, and others have one, as "
                                 f"{places[other].source!r}; expected a scale for each. Download it again, or give the "
                                 "unquantized model.")


def header_of_kept(text: str, names: Collection[str]) -> str:
    """The part of a header's description of quantized layers that holds for the tensors `names`; "" if there is none."""
    layers = {layer: said for layer, said in described_layers(text).items()
              if any(name == f"{layer}.weight_scale" or name.endswith(f".{layer}.weight_scale") for name in names)}
    return json.dumps({"format_version": "1.0", "layers": layers}, sort_keys=True) if layers else ""


def _refuse_other_formats(where: str, places: Mapping[str, Place]) -> None:
    if double := next((name for name in places if name.endswith(".weight_scale_2")), ""):
        raise _unsupported(where, "nvfp4", places[double].source)
    for name, said in _descriptions(where, places):
        given = said.get("format") if isinstance(said, dict) else said
        weight = places.get(f"{name}.weight")
        if given not in FP8.values():
            raise _unsupported(where, given, name)
        if more := sorted(key for key, value in said.items() if key not in NEUTRAL and value):
            raise _unsupported(where, f"{given} with {', '.join(map(short, more))}", name)
        if weight is None:
            raise ModelFileError(f"{where}: the file describes the quantized layer {short(name)}, whose weight it lacks; "
                                 "expected both. Download it again.")
        stored = weight.file.stored[weight.source]
        if FP8.get(stored.dtype) != given or f"{name}.weight_scale" not in places:
            what = "has no weight_scale" if FP8.get(stored.dtype) == given else f"is {stored.dtype}"
            raise ModelFileError(f"{where}: {weight.source!r} is described as {given}, but {what}; expected such codes and a "
                                 "scale. Give the unquantized model.")


def _unsupported(where: str, given: Any, layer: str) -> ModelFileError:
    return ModelFileError(f"{where}: {short(layer)} is quantized in the format {short(given)}; expected "
                          f"one of {', '.join(READ)}, as ComfyUI describes it in the file. {INSTEAD}.")


def _descriptions(where: str, places: Mapping[str, Place]) -> Iterator[tuple[str, Any]]:
    """(layer, description) of the quantized layers of a component, from tensors and headers."""
    for name, place in places.items():
        if name.endswith(DESCRIBED):
            yield name.removesuffix(DESCRIBED), _json_of(where, place)
    by_source = {place.source: name for name, place in places.items()}
    described: dict[Path, Mapping[str, Any]] = {}
    for place in places.values():
        if HEADER in place.file.metadata and place.file.path not in described:
            described[place.file.path] = described_layers(place.file.metadata[HEADER])
    # The header may name layers with the component's prefix or without.
    for layers in described.values():
        for layer, said in layers.items():
            name = by_source.get(f"{layer}.weight", f"{layer}.weight").removesuffix(".weight")
            if f"{name}.weight" in places:
                yield name, said


def _json_of(where: str, place: Place) -> dict[str, Any]:
    stored = place.file.stored[place.source]
    data = b""
    if stored.dtype in ("U8", "I8") and stored.bytes <= _MOST_BYTES:
        if stored.offset is None:
            data = bytes(place.file.read([place.source])[place.source].reshape(-1).tolist())
        else:
            with place.file.path.open("rb") as file:
                file.seek(stored.offset)
                data = file.read(stored.bytes)
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise ModelFileError(f"{where}: {place.source!r} does not hold the description of a quantized layer; expected JSON with "
                             "a format. Give the unquantized model.")
    return said
