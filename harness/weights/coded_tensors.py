"""The tensors of a safetensors file as their values: layers that tools store as codes with scales become the weights that they
stand for, and what only belongs to codes goes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from harness.weights.bitsandbytes_layers import LEFT_OVER, SCB, STATE, bitsandbytes_layers
from harness.weights.codes import INSTEAD, Header, Layer, Shard
from harness.weights.comfy_layers import DESCRIBED, HEADER, comfy_layers, without
from harness.weights.packed_layers import NAMES, PACKED_WEIGHT, compressed_layers, torchao_layers
from harness.weights.safetensors_header import EXPONENTS, ModelFileError, StoredTensor

_SIGNS: Final = (SCB, DESCRIBED, PACKED_WEIGHT, ".weight_scale")


def with_values(shards: Sequence[Shard]) -> list[Shard]:
    """The files of a component without their codes: the weights that these stand for are in the files of the codes. Raises
    ModelFileError, naming the tensor, for codes that do not fit together or stand for nothing."""
    stored = {name: tensor for shard in shards for name, tensor in shard.stored.items()}
    homes = {name: shard.path for shard in shards for name in shard.stored}
    layers: dict[str, Layer] = {}
    if any({HEADER, NAMES} & shard.metadata.keys() for shard in shards) or any(
            STATE in name or name.endswith(_SIGNS) for name in stored):
        header = Header(stored=stored, homes=homes, texts=tuple(shard.metadata for shard in shards))
        for layer in (*bitsandbytes_layers(header), *comfy_layers(header), *torchao_layers(header)):
            _add(layers, layer, header)
        taken = {name for layer in layers.values() for name in layer.used}
        rest = {name: tensor for name, tensor in stored.items() if name not in taken}
        for layer in compressed_layers(replace(header, stored=rest)):
            _add(layers, layer, header)
    return [_changed(shard, layers) for shard in shards]


def _changed(shard: Shard, layers: Mapping[str, Layer]) -> Shard:
    by_codes = {layer.source: layer for layer in layers.values()}
    used = {name for layer in layers.values() for name in layer.used}
    values: dict[str, StoredTensor] = {}
    for name, tensor in shard.stored.items():
        if name in by_codes:
            values[by_codes[name].name] = by_codes[name].tensor
        elif name not in used:
            _refuse_left_over(shard.path, name, tensor)
            values[name] = tensor
    texts = dict(shard.metadata)
    if HEADER in texts and layers:
        text = without(texts.pop(HEADER), set(layers))
        texts |= {HEADER: text} if text else {}
    return replace(shard, stored=values, metadata=texts, gone=used & shard.stored.keys() - values.keys())


def _add(layers: dict[str, Layer], layer: Layer, header: Header) -> None:
    if layer.name in layers or (layer.name in header.stored and layer.name not in layer.used):
        raise ModelFileError(f"{header.homes[layer.source]}: {layer.name!r} is in the file twice, as a weight and in codes; "
                             f"expected one of them. {INSTEAD}.")
    layers[layer.name] = layer


def _refuse_left_over(path: Path, name: str, tensor: StoredTensor) -> None:
    if name.endswith(LEFT_OVER) and "." in name:
        raise ModelFileError(f"{path}: {name!r} belongs to a layer quantized by bitsandbytes, of which the file lacks the "
                             f"codes or the quant_state; expected all of a layer in one file. Download it again. {INSTEAD}.")
    if tensor.dtype == EXPONENTS:
        raise ModelFileError(f"{path}: {name!r} holds scales of MX codes (F8_E8M0), and the file does not say of which; expected "
                             f"ComfyUI's or torchao's description of the layer. {INSTEAD}.")
