"""Layers in the formats of ComfyUI beyond scaled fp8: nvfp4, mxfp8, int8 for whole tensors or rows, and rotated int8 and int4.
https://github.com/Comfy-Org/ComfyUI/blob/master/comfy/quant_ops.py, https://github.com/Comfy-Org/comfy-kitchen"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from harness.weights.codes import FLOATS, Codes, Header, Layer, layer, size

HEADER: Final = "_quantization_metadata"
"""The header text in which ComfyUI describes quantized layers: {"layers": {path: {"format": ...}}}."""
DESCRIBED: Final = ".comfy_quant"
"""Ending of a tensor whose bytes are the JSON description of one layer."""
FP8: Final = {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
NEUTRAL: Final = frozenset({"format", "full_precision_matrix_mult", "linear_dtype", "orig_dtype", "params"})
"""What a description may say without changing the values of the weight."""
_ROTATION: Final = frozenset({"convrot", "convrot_groupsize"})
_ROTATED: Final = (4, 16, 64, 256, 1024, 4096)
Said = Mapping[str, Any]


def described_layers(text: str) -> Mapping[str, Any]:
    """The layers that a header describes; empty for a text of another form, as the scales then speak for themselves."""
    try:
        described = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    layers = described.get("layers") if isinstance(described, dict) else None
    return layers if isinstance(layers, dict) else {}


def comfy_layers(header: Header) -> Iterator[Layer]:
    """The layers in these formats. Raises ModelFileError, naming the tensor, for what does not fit together."""
    for path, said in _descriptions(header):
        weight = f"{path}.weight"
        if not isinstance(said, dict) or weight not in header.stored:
            continue
        kind, params = said.get("format"), said.get("params")
        described = {**(params if isinstance(params, dict) else {}), **said}
        if isinstance(kind, str) and kind in _READERS and not (kind in FP8.values() and header.stored[weight].dtype in FP8):
            if f"{path}.pre_quant_scale" in header.stored:
                raise header.refuse(f"{path}.pre_quant_scale", f"scales the inputs of a layer in {kind}; expected plain {kind}")
            yield _READERS[kind](header, path, described)


def without(text: str, layers: set[str]) -> str:
    """The header's description without the layers of these weights; "" if none is left."""
    kept = {path: described for path, described in described_layers(text).items()
            if not any(name == f"{path}.weight" or name.endswith(f".{path}.weight") for name in layers)}
    return json.dumps({"format_version": "1.0", "layers": kept}) if kept else ""


def _descriptions(header: Header) -> Iterator[tuple[str, Any]]:
    inside = [name for name in header.stored if name.endswith(DESCRIBED)]
    for name in inside:
        yield name.removesuffix(DESCRIBED), header.description(name)
    layers = {path: said for text in header.texts for path, said in described_layers(text.get(HEADER, "")).items()}
    if not layers:
        return
    # The header may name layers with the component's prefix or without.
    ends: dict[str, str] = {}
    for name in header.stored:
        if name.endswith(".weight"):
            parts = name.removesuffix(".weight").split(".")
            ends.update({".".join(parts[begin:]): name for begin in range(len(parts))
                         if ".".join(parts[begin:]) in layers and f"{'.'.join(parts[begin:])}.weight" not in header.stored})
    described = {name.removesuffix(DESCRIBED) for name in inside}
    for path, said in layers.items():
        whole = path if f"{path}.weight" in header.stored else ends.get(path, "").removesuffix(".weight")
        if whole and whole not in described:
            yield whole, said


def _block_scaled(kind: str, dtypes: tuple[str, ...], group: int, dtype: str) -> Callable[[Header, str, Said], Layer]:
    """Blocks of `group` values of a row, whose scales are in the order of the tensor cores."""
    def read(header: Header, path: str, said: Said) -> Layer:
        codes = header.beside(f"{path}.weight", path)
        scales = header.beside(f"{path}.weight_scale", codes.name)
        per_byte = 2 if kind == "nvfp4" else 1
        stored = codes.stored
        shape = (stored.shape[0], stored.shape[-1] * per_byte) if len(stored.shape) == 2 else stored.shape
        if stored.dtype not in dtypes or len(shape) != 2 or 0 in shape or shape[1] % group:
            raise header.refuse(codes.name, f"is {stored.dtype} {list(stored.shape)}, described as {kind}; expected a matrix of "
                                f"{' or '.join(dtypes)} in blocks of {group} values")
        _refuse_more(header, path, said, frozenset(), group)
        rows, columns = -(-shape[0] // 128) * 128, -(-shape[1] // group // 4) * 4
        header.expect(scales, ("U8", "F8_E4M3" if kind == "nvfp4" else "F8_E8M0"), (rows, columns), (rows * columns,),
                      (rows // 4, columns * 4))
        over = header.beside(f"{path}.weight_scale_2", codes.name) if kind == "nvfp4" else None
        if over:
            header.expect(over, FLOATS, (), (1,))
        return layer(codes.name, dtype, shape, Codes(
            type=kind, offset=stored.offset or 0, bytes=size(codes, scales, *([over] if over else [])), source=codes.name,
            scales=scales, block=group, over=over, swizzled=True, zero_is_zero=True), also=_also(path))

    return read


def _by_rows(kind: str, dtypes: tuple[str, ...], values_per_byte: int = 1) -> Callable[[Header, str, Said], Layer]:
    """One scale for the tensor or for each row; the values of a row may be rotated in groups."""
    def read(header: Header, path: str, said: Said) -> Layer:
        codes = header.beside(f"{path}.weight", path)
        scales = header.beside(f"{path}.weight_scale", codes.name)
        shape = codes.stored.shape
        if codes.stored.dtype not in dtypes or len(shape) < 2 or 0 in shape:
            raise header.refuse(codes.name, f"is {codes.stored.dtype} {list(shape)}, described as {kind}; expected a matrix of "
                                f"{' or '.join(dtypes)}")
        shape = (*shape[:-1], shape[-1] * values_per_byte)
        rotated = _rotation(header, path, said, shape) if kind == "convrot_w4a4" or said.get("convrot") else 0
        _refuse_more(header, path, said, _ROTATION if kind in ("convrot_w4a4", "int8_tensorwise") else frozenset(), 0)
        rows = shape[:1]
        header.expect(scales, FLOATS, (), (1,), (1, 1), rows, (*rows, *(1,) * (len(shape) - 1)))
        single = math.prod(scales.stored.shape) == 1
        return layer(codes.name, "F32", shape, Codes(
            type=kind, offset=codes.stored.offset or 0, bytes=size(codes, scales), source=codes.name, scales=scales,
            block=0 if single else math.prod(shape[1:]), rotated=rotated, low_first=True), also=_also(path))

    return read


def _rotation(header: Header, path: str, said: Said, shape: tuple[int, ...]) -> int:
    group = said.get("convrot_groupsize", 256)
    if group not in _ROTATED or len(shape) != 2 or shape[1] % group:
        raise header.refuse(f"{path}.weight", f"is rotated in groups of {ascii(group)[:40]}, and its shape is {list(shape)}; "
                            "expected rows of whole groups of a power of 4")
    return int(group)


def _refuse_more(header: Header, path: str, said: Said, more: frozenset[str], group: int) -> None:
    wrong = sorted(key for key, value in said.items() if key not in NEUTRAL | more and value and not (
        key in ("group_size", "block_size") and value == group))
    if wrong:
        raise header.refuse(f"{path}.weight", f"is described as {said['format']} with "
                            f"{', '.join(ascii(key)[:40] for key in wrong)}; expected plain {said['format']}")


def _also(path: str) -> tuple[str, ...]:
    return tuple(f"{path}{ending}" for ending in (DESCRIBED, ".input_scale", ".scale_input"))


_READERS: Final[Mapping[str, Callable[[Header, str, Said], Layer]]] = {
    "nvfp4": _block_scaled("nvfp4", ("U8",), 16, "F32"),
    "mxfp8": _block_scaled("mxfp8", ("F8_E4M3",), 32, "BF16"),
    "int8_tensorwise": _by_rows("int8_tensorwise", ("I8",)),
    "convrot_w4a4": _by_rows("convrot_w4a4", ("I8", "U8"), 2),
    **{word: _by_rows(word, ("U8", "I8")) for word in FP8.values()}}
READ: Final = tuple(_READERS)
"""The formats of ComfyUI that are read."""
