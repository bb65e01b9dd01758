"""The tensors of a safetensors file as their values: layers that tools store as codes with scales become the weights that they
stand for, and what only belongs to codes goes with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from harness.weights.bitsandbytes_layers import LEFT_OVER, SCB, STATE, bitsandbytes_layers
from harness.weights.codes import INSTEAD, Header, Layer
from harness.weights.comfy_layers import DESCRIBED, HEADER, comfy_layers, without
from harness.weights.packed_layers import NAMES, PACKED_WEIGHT, compressed_layers, torchao_layers
from harness.weights.safetensors_header import ModelFileError, StoredTensor

_SIGNS: Final = (SCB, DESCRIBED, PACKED_WEIGHT, ".weight_scale")
Stored = Mapping[str, StoredTensor]


def with_values(path: Path, stored: Stored, metadata: Mapping[str, str]) -> tuple[Stored, Mapping[str, str]]:
    """The tensors and the header texts of a file without its codes. Raises ModelFileError, naming the tensor, for codes that do
    not fit together or stand for nothing."""
    layers: dict[str, Layer] = {}
    if HEADER in metadata or NAMES in metadata or any(STATE in name or name.endswith(_SIGNS) for name in stored):
        with path.open("rb") as file:
            header = Header(path=path, stored=stored, metadata=metadata, file=file)
            for layer in (*bitsandbytes_layers(header), *comfy_layers(header), *torchao_layers(header)):
                _add(path, layers, layer, stored)
            taken = {name for layer in layers.values() for name in layer.used}
            rest = {name: tensor for name, tensor in stored.items() if name not in taken}
            for layer in compressed_layers(Header(path=path, stored=rest, metadata={}, file=file)):
                _add(path, layers, layer, stored)
    by_codes = {name: layer for layer in layers.values() for name in layer.used}
    values: dict[str, StoredTensor] = {}
    for name, tensor in stored.items():
        if name not in by_codes:
            _refuse_left_over(path, name, tensor)
            values[name] = tensor
        else:
            values.setdefault(by_codes[name].name, by_codes[name].tensor)
    texts = dict(metadata)
    if HEADER in texts and layers:
        text = without(texts.pop(HEADER), set(layers))
        texts |= {HEADER: text} if text else {}
    return values, texts


def _add(path: Path, layers: dict[str, Layer], layer: Layer, stored: Stored) -> None:
    if layer.name in layers or (layer.name in stored and layer.name not in layer.used):
        raise ModelFileError(f"{path}: {layer.name!r} is in the file twice, as a weight and in codes; expected one of them. "
                             f"{INSTEAD}.")
    layers[layer.name] = layer


def _refuse_left_over(path: Path, name: str, tensor: StoredTensor) -> None:
    if name.endswith(LEFT_OVER) and "." in name:
        raise ModelFileError(f"{path}: {name!r} belongs to a layer quantized by bitsandbytes, of which the file lacks the "
                             f"codes or the quant_state; expected all of a layer in one file. Download it again. {INSTEAD}.")
    if tensor.dtype == "F8_E8M0":
        raise ModelFileError(f"{path}: {name!r} holds scales of MX codes (F8_E8M0), and the file does not say of which; expected "
                             f"ComfyUI's or torchao's description of the layer. {INSTEAD}.")
