"""Layers in the formats of compressed-tensors (nvfp4, mxfp4, mxfp8) and of torchao (MX, NVFP4, fp8 and int8 tensors).
https://github.com/vllm-project/compressed-tensors, https://github.com/pytorch/ao/tree/main/torchao/prototype/safetensors"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from harness.weights.codes import FLOATS, Beside, Codes, Header, Layer, layer, size, sound_shape

PACKED_WEIGHT: Final = ".weight_packed"
NAMES: Final = "tensor_names"
"""The header text in which torchao lists the tensors of a file, each of which has a text of its own name."""
_TYPES: Final = ("MXTensor", "NVFP4Tensor", "Float8Tensor", "Int8Tensor")
_DTYPES: Final = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_FP8: Final = {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
_MOST_ZEROS: Final = 1 << 26
_EXPONENTS: Final = ("U8", "F8_E8M0")


def compressed_layers(header: Header) -> Iterator[Layer]:
    """The layers of compressed-tensors. Raises ModelFileError, naming the tensor, for what does not fit together."""
    for name, stored in header.stored.items():
        if name.endswith(PACKED_WEIGHT) and stored.dtype == "U8" and len(stored.shape) == 2:
            yield _fp4(header, name.removesuffix(PACKED_WEIGHT), header.beside(name, name))
        elif name.endswith(".weight") and stored.dtype == "F8_E4M3" and len(stored.shape) == 2 and stored.bytes:
            scales = header.stored.get(f"{name}_scale")
            if scales is not None and scales.dtype == "U8" and scales.shape == (stored.shape[0], stored.shape[1] / 32):
                yield layer(name, "BF16", stored.shape, Codes(
                    type="mxfp8", offset=stored.offset or 0, bytes=size(stored, scales), source=name, block=32,
                    scales=header.beside(f"{name}_scale", name)), also=(f"{name.removesuffix('.weight')}.input_scale",))


def _fp4(header: Header, path: str, codes: Beside) -> Layer:
    weight, scales = f"{path}.weight", header.beside(f"{path}.weight_scale", codes.name)
    if f"{path}.weight_zero_point" in header.stored:
        raise header.refuse(f"{path}.weight_zero_point", "shifts 4-bit codes; expected symmetric ones")
    whole = f"{path}.weight_global_scale"
    over = header.beside(whole, weight) if whole in header.stored else None
    kind, group, dtypes = ("nvfp4", 16, ("F8_E4M3",)) if over else ("mxfp4", 32, _EXPONENTS)
    shape = (codes.stored.shape[0], 2 * codes.stored.shape[1])
    if 0 in shape or shape[1] % group:
        raise header.refuse(codes.name, f"is {codes.stored.dtype} {list(codes.stored.shape)}; expected rows in blocks of {group} "
                            "values, two to a byte")
    header.expect(scales, dtypes, (shape[0], shape[1] // group))
    if over:
        header.expect(over, FLOATS, (), (1,))
    return layer(weight, "BF16", shape, Codes(
        type=kind, offset=codes.stored.offset or 0, bytes=size(codes, scales, *([over] if over else [])), source=codes.name,
        scales=scales, block=group, over=over, divided=True, low_first=True),
        also=(f"{path}.input_global_scale", f"{path}.weight_shape"))


def torchao_layers(header: Header) -> Iterator[Layer]:
    """The layers of torchao's tensors. Raises ModelFileError, naming the tensor, for a type that is not read."""
    for name, text in ((name, texts.get(name, "")) for texts in header.texts for name in _names(texts.get(NAMES, ""))):
        said = _object(text)
        kind, attributes = said.get("_type"), said.get("_data")
        path, _, leaf = name.rpartition(".")
        prefix = f"{path}._{leaf}_" if path else f"_{leaf}_"
        if not any(one.startswith(prefix) for one in header.stored):
            continue
        if kind not in _TYPES or not isinstance(attributes, dict):
            raise header.refuse(name, f"is a tensor of torchao of the type {ascii(kind)[:60]}; expected {', '.join(_TYPES)}")
        yield _of_torchao(header, name, prefix, attributes)


def _of_torchao(header: Header, name: str, prefix: str, said: Mapping[str, Any]) -> Layer:
    codes, scales = header.beside(f"{prefix}qdata", name), header.beside(f"{prefix}scale", name)
    stored, dtype = codes.stored, _DTYPES.get(_word(said.get("orig_dtype", said.get("dtype"))), "")
    kind = {"U8": "nvfp4" if scales.stored.dtype == "F8_E4M3" else "mxfp4", "I8": "int8_tensorwise"}.get(stored.dtype) or (
        "mxfp8" if scales.stored.dtype == "F8_E8M0" and stored.dtype == "F8_E4M3" else _FP8.get(stored.dtype, ""))
    shape = (*stored.shape[:-1], stored.shape[-1] * (2 if stored.dtype == "U8" else 1)) if stored.shape else ()
    block = said.get("block_size")
    if kind in ("int8_tensorwise", *_FP8.values()):
        block = _rows(sound_shape(block), shape)
    elif type(block) is not int or block < 1 or not shape or shape[-1] % block:
        block = None
    if not kind or not dtype or len(shape) < 2 or 0 in shape or block is None:
        raise header.refuse(codes.name, f"is {stored.dtype} {list(stored.shape)} with blocks of "
                            f"{ascii(said.get('block_size'))[:60]}; expected whole blocks of a matrix")
    over = f"{prefix}per_tensor_scale"
    whole = header.beside(over, name) if over in header.stored else None
    if whole:
        header.expect(whole, FLOATS, (), (1,))
    swizzled = said.get("is_swizzled_scales") is True
    _expect_scales(header, scales, shape, block, kind, swizzled)
    zero = f"{prefix}zero_point"
    if zero in header.stored and not _all_zero(header, zero):
        raise header.refuse(zero, "shifts codes; expected symmetric ones")
    return layer(name, dtype, shape, Codes(
        type=kind, offset=stored.offset or 0, bytes=size(codes, scales, *([whole] if whole else [])), source=codes.name,
        scales=scales, block=block, over=whole, low_first=True, swizzled=swizzled), also=(zero, f"{prefix}act_per_tensor_scale"))


def _expect_scales(header: Header, scales: Beside, shape: tuple[int, ...], block: int, kind: str, swizzled: bool) -> None:
    if kind in ("int8_tensorwise", *_FP8.values()):
        ones = (1,) * (len(shape) - 1)
        header.expect(scales, FLOATS, *([shape[:1], (shape[0], *ones)] if block else [(), (1,), (1, *ones)]))
        return
    rows, columns = math.prod(shape[:-1]), shape[-1] // block
    tiled = (-(-rows // 128) * 128, -(-columns // 4) * 4)
    header.expect(scales, ("F8_E4M3",) if kind == "nvfp4" else _EXPONENTS, *(
        [tiled, (tiled[0] * tiled[1],), (tiled[0] // 4, tiled[1] * 4)] if swizzled else [(*shape[:-1], columns)]))


def _rows(block: tuple[int, ...] | None, shape: tuple[int, ...]) -> int | None:
    """Values that share a scale: 0 for all, those of a row, or None for other blocks."""
    if block == shape:
        return 0
    return math.prod(shape[1:]) if block == (1, *shape[1:]) else None


def _all_zero(header: Header, name: str) -> bool:
    data = header.data(name, _MOST_ZEROS)
    return bool(data) and not any(data)


def _names(text: str) -> list[str]:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _object(text: str) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    return said if isinstance(said, dict) else {}


def _word(said: object) -> str:
    word = said.get("_data") if isinstance(said, dict) else said
    return word if isinstance(word, str) else ""
