"""Weights that other tools store as codes with scales: all that dequantising one takes."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

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
class Shard:
    """One of the safetensors files of a component: its tensors, its header's texts, and the names of what was in codes."""

    path: Path
    stored: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]
    gone: Collection[str] = ()


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A tensor that belongs to the codes of a weight: its name, and the file that has it, which may be another shard."""

    name: str
    stored: StoredTensor
    path: Path


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
    """A weight in codes: its name, the name of its codes, the tensor as which it is read, and the names of all that belongs to
    it."""

    name: str
    source: str
    tensor: StoredTensor
    used: Collection[str]


@dataclass(frozen=True, kw_only=True)
class Header:
    """The headers of the files of a component: all their tensors, the file of each, and the texts of each file."""

    stored: Mapping[str, StoredTensor]
    homes: Mapping[str, Path]
    texts: tuple[Mapping[str, str], ...]

    def beside(self, name: str, of: str) -> Beside:
        """The tensor `name`, which codes need. Raises ModelFileError if the files lack it."""
        if name not in self.stored:
            path = self.homes.get(of, next(iter(self.homes.values())))
            raise ModelFileError(f"{path}: lacks {name!r}, without which {of!r} cannot be dequantised; expected both. Download "
                                 f"it again. {INSTEAD}.")
        return Beside(name=name, stored=self.stored[name], path=self.homes[name])

    def expect(self, what: Beside, dtypes: Collection[str], *shapes: tuple[int, ...]) -> None:
        """Raises ModelFileError unless the tensor has one of these dtypes and shapes."""
        if what.stored.dtype not in dtypes or what.stored.shape not in shapes:
            raise ModelFileError(f"{what.path}: {what.name!r} is {what.stored.dtype} {list(what.stored.shape)}; expected "
                                 f"{' or '.join(dtypes)} {' or '.join(str(list(shape)) for shape in dict.fromkeys(shapes))}, as "
                                 f"its weight needs. Download it again. {INSTEAD}.")

    def refuse(self, name: str, why: str) -> ModelFileError:
        """The error about a layer that cannot be read."""
        path = self.homes.get(name, next(iter(self.homes.values())))
        return ModelFileError(f"{path}: {name!r} {why}. {INSTEAD}.")

    def data(self, name: str, most: int) -> bytes:
        """The bytes of a tensor; none of one with more than `most`."""
        stored = self.stored[name]
        if stored.bytes > most or stored.offset is None:
            return b""
        with self.homes[name].open("rb") as file:
            file.seek(stored.offset)
            return file.read(stored.bytes)

    def description(self, name: str) -> dict[str, Any]:
        """The JSON object in the bytes of a tensor. Raises ModelFileError for anything else."""
        try:
            described = json.loads(self.data(name, _MOST_BYTES)) if self.stored[name].dtype in ("U8", "I8") else None
        except (ValueError, RecursionError):
            described = None
        if not isinstance(described, dict):
            raise self.refuse(name, "does not hold the description of a quantized layer; expected JSON text")
        return described


def layer(name: str, dtype: str, shape: tuple[int, ...], codes: Codes, also: Collection[str] = ()) -> Layer:
    """A weight of this shape with values of this dtype; `also` are names that go with its codes and change no value."""
    parts = [codes.scales, *codes.nested.values(), *([codes.over] if codes.over else [])]
    return Layer(name=name, source=codes.source, tensor=StoredTensor(dtype=dtype, shape=shape, packed=codes),
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
