"""Layers in the files of bitsandbytes: nf4 and fp4 with their quant_state, whose scales may be codes too, and int8 with SCB.
https://github.com/bitsandbytes-foundation/bitsandbytes/blob/main/bitsandbytes/functional.py"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from harness.weights.codes import BITS, FLOATS, Beside, Codes, Header, Layer, codes_bytes, layer, size, sound_shape

STATE: Final = ".quant_state.bitsandbytes__"
_DTYPES: Final = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_BLOCKS: Final = (32, 64, 128, 256, 512, 1024, 2048, 4096)
SCB: Final = ".SCB"
_PER_STEP: Final = 7.874015718698502e-3
"""1/127 as bitsandbytes has it."""
LEFT_OVER: Final = (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", SCB)
"""Endings of tensors that belong to a layer of bitsandbytes."""


def bitsandbytes_layers(header: Header) -> Iterator[Layer]:
    """The layers in codes of bitsandbytes. Raises ModelFileError, naming the tensor, for what does not fit together."""
    for name in header.stored:
        if STATE in name:
            yield _four_bits(header, name)
        elif name.endswith(SCB):
            yield _int8(header, name)


def _four_bits(header: Header, state_name: str) -> Layer:
    weight, _, kind = state_name.partition(STATE)
    state, stored = header.description(state_name), header.beside(weight, weight).stored
    shape, block, dtype = sound_shape(state.get("shape")), state.get("blocksize"), state.get("dtype")
    if kind not in ("nf4", "fp4") or state.get("quant_type") != kind:
        raise header.refuse(state_name, f"states the format {_short(state.get('quant_type'))}; expected nf4 or fp4, as its name "
                            "says")
    if block not in _BLOCKS:
        raise header.refuse(state_name, f"states blocks of {_short(block)} values; expected "
                            f"{', '.join(map(str, _BLOCKS[:-1]))} or {_BLOCKS[-1]}")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise header.refuse(state_name, f"states the dtype {_short(dtype)}; expected one of {', '.join(_DTYPES)}")
    count = math.prod(shape or ())
    if shape is None or stored.bytes != codes_bytes(kind, count):
        raise header.refuse(state_name, f"states the shape {_short(state.get('shape'))}, and {weight!r} holds {2 * stored.bytes} "
                            "codes; expected a shape with so many values")
    scales = header.beside(f"{weight}.absmax", weight)
    table = header.beside(f"{weight}.quant_map", weight)
    header.expect(table, FLOATS, (1 << BITS[kind],))
    blocks = -(-count // block)
    nested = _nested(header, weight, state, blocks) if f"{weight}.nested_absmax" in header.stored else {}
    header.expect(scales, ("U8",) if nested else FLOATS, (blocks,))
    codes = Codes(type=kind, offset=stored.offset or 0, bytes=size(stored, scales, table, *nested.values()), source=weight,
                  scales=scales, block=block, nested={**nested, "table": table},
                  nested_block=state["nested_blocksize"] if nested else 0,
                  nested_offset=float(state["nested_offset"]) if nested else 0.0)
    return layer(weight, _DTYPES[dtype], shape, codes, also=(state_name,))


def _nested(header: Header, weight: str, state: dict[str, Any], blocks: int) -> dict[str, Beside]:
    block, offset, name = state.get("nested_blocksize"), state.get("nested_offset"), f"{weight}{STATE}{state['quant_type']}"
    if type(block) is not int or not 0 < block <= 1 << 16:
        raise header.refuse(name, f"states nested blocks of {_short(block)} values; expected a positive whole number")
    if not isinstance(offset, int | float) or isinstance(offset, bool) or not abs(offset) < 1e30:
        raise header.refuse(name, f"states the nested offset {_short(offset)}; expected a number")
    scales = header.beside(f"{weight}.nested_absmax", weight)
    values = header.beside(f"{weight}.nested_quant_map", weight)
    header.expect(scales, ("F32",), (-(-blocks // block),))
    header.expect(values, ("F32",), (256,))
    return {"scales": scales, "values": values}


def _int8(header: Header, name: str) -> Layer:
    weight, form = f"{name.removesuffix(SCB)}.weight", f"{name.removesuffix(SCB)}.weight_format"
    codes, scales = header.beside(weight, weight), header.beside(name, weight)
    rows = codes.stored.shape[:1]
    if codes.stored.dtype != "I8" or len(codes.stored.shape) != 2 or 0 in codes.stored.shape:
        raise header.refuse(weight, f"is {codes.stored.dtype} {list(codes.stored.shape)}, and {name!r} makes it int8 codes of "
                            "bitsandbytes; expected an I8 matrix")
    header.expect(scales, FLOATS, rows, (*rows, 1), (1, *rows))
    if form in header.stored and header.data(form, 1) != b"\0":
        raise header.refuse(form, "states a layout for a certain GPU; expected 0, whole rows")
    return layer(weight, "F32", codes.stored.shape, Codes(
        type="int8", offset=codes.stored.offset or 0, bytes=size(codes, scales), source=weight, scales=scales,
        block=codes.stored.shape[1], factor=_PER_STEP), also=(form,))


def _short(value: object) -> str:
    return ascii(value)[:60]
