"""Weights that other tools store as codes with scales: all that dequantising one takes."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from harness.weights.safetensors_header import MAX_DIMENSIONS, ModelFileError, Packed, StoredTensor

INSTEAD: Final = "Give the model in bf16, fp16, fp8 or GGUF: most are published so too"
"""What to do about a file whose codes are not read."""
_MOST_BYTES: Final = 4096
"""The longest description of one layer."""
FLOATS: Final = ("F32", "F16", "BF16")
BITS: Final[Mapping[str, int]] = {
    "nf4": 4, "fp4": 4, "nvfp4": 4, "mxfp4": 4, "convrot_w4a4": 4, "int8": 8, "int8_tensorwise": 8, "mxfp8": 8,
    "float8_e4m3fn": 8, "float8_e5m2": 8}
"""The formats that are dequantised, and the bits of a code."""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A tensor that belongs to the codes of a weight, by its name in the file."""

    name: str
    stored: StoredTensor


@dataclass(frozen=True, kw_only=True)
class Codes(Packed):
    """The codes of a weight. `type` is a row of BITS, `source` the name of the codes, `bytes` counts the scales too.

    `block` values share a scale, in the order of the weight; 0: all. `scales` are these scales; where they are codes themselves,
    `nested` has the scales and values of these. `over` scales the scales of the whole tensor, or divides them (`divided`).
    `low_first`: of two codes in a byte, the low bits are the earlier one. `swizzled`: the scales are in the order of NVIDIA's
    tensor cores. `zero_is_zero`: a scale whose exponent is 0 is zero, not 2^-127. `rotated` values are stored as their products
    with a Hadamard matrix. `factor` multiplies all values last.
    """

    source: str
    scales: Beside
    block: int
    nested: Mapping[str, Beside] = field(default_factory=dict)
    nested_block: int = 0
    nested_offset: float = 0.0
    over: Beside | None = None
    divided: bool = False
    low_first: bool = False
    swizzled: bool = False
    zero_is_zero: bool = False
    rotated: int = 0
    factor: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A weight in codes: its name, the tensor as which it is read, and the names of all that the file has of it."""

    name: str
    tensor: StoredTensor
    used: Collection[str]


@dataclass(frozen=True, kw_only=True)
class Header:
    """The header of an open safetensors file."""

    path: Path
    stored: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]
    file: BinaryIO = field(repr=False)

    def beside(self, name: str, of: str) -> Beside:
        """The tensor `name`, which codes need. Raises ModelFileError if the file lacks it."""
        if name not in self.stored:
            raise ModelFileError(f"{self.path}: lacks {name!r}, without which {of!r} cannot be dequantised; expected both in one "
                                 f"file. Download it again. {INSTEAD}.")
        return Beside(name=name, stored=self.stored[name])

    def expect(self, what: Beside, dtypes: Collection[str], *shapes: tuple[int, ...]) -> None:
        """Raises ModelFileError unless the tensor has one of these dtypes and shapes."""
        if what.stored.dtype not in dtypes or what.stored.shape not in shapes:
            raise ModelFileError(f"{self.path}: {what.name!r} is {what.stored.dtype} {list(what.stored.shape)}; expected "
                                 f"{' or '.join(dtypes)} {' or '.join(str(list(shape)) for shape in dict.fromkeys(shapes))}, as "
                                 f"its weight needs. Download it again. {INSTEAD}.")

    def refuse(self, name: str, why: str) -> ModelFileError:
        """The error about a layer that cannot be read."""
        return ModelFileError(f"{self.path}: {name!r} {why}. {INSTEAD}.")

    def description(self, name: str) -> dict[str, Any]:
        """The JSON object in the bytes of a tensor. Raises ModelFileError for anything else."""
        stored, data = self.stored[name], b""
        if stored.dtype in ("U8", "I8") and stored.bytes <= _MOST_BYTES and stored.offset is not None:
            self.file.seek(stored.offset)
            data = self.file.read(stored.bytes)
        try:
            described = json.loads(data)
        except (ValueError, RecursionError):
            described = None
        if not isinstance(described, dict):
            raise self.refuse(name, "does not hold the description of a quantized layer; expected JSON text")
        return described


def layer(name: str, dtype: str, shape: tuple[int, ...], codes: Codes, also: Collection[str] = ()) -> Layer:
    """A weight of this shape with values of this dtype; `also` are names that go with its codes and change no value."""
    parts = [codes.scales, *codes.nested.values(), *([codes.over] if codes.over else [])]
    return Layer(name=name, tensor=StoredTensor(dtype=dtype, shape=shape, packed=codes),
                 used={codes.source, *(part.name for part in parts), *also})


def codes_bytes(kind: str, count: int) -> int:
    """The bytes of the codes of `count` values."""
    return (count * BITS[kind] + 7) // 8


def sound_shape(shape: object) -> tuple[int, ...] | None:
    """A shape from a description; None unless it is a list of a few positive whole numbers."""
    if not isinstance(shape, list) or not 0 < len(shape) <= MAX_DIMENSIONS or not all(type(n) is int and n > 0 for n in shape):
        return None
    return tuple(shape) if math.prod(shape) < 1 << 48 else None


def size(*parts: Beside | StoredTensor) -> int:
    """The bytes of these tensors in the file."""
    return sum(part.stored.bytes if isinstance(part, Beside) else part.bytes for part in parts)
