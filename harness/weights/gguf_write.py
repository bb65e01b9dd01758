"""Writes a GGUF file of version 3: a header of texts, numbers and shapes, and tensors that are plain or in blocks."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.weights.files import ModelFileError
from harness.weights.gguf_header import MAGIC, SHAPES
from harness.weights.gguf_types import GGUF_TYPES
from harness.weights.stream import OutputFile, remove_abandoned
from harness.weights.write import bytes_of

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX: Final = ".gguf"
LONGEST_NAME: Final = 127
"""Bytes of a tensor's name that city96's tools and stable-diffusion.cpp read; llama.cpp reads 63."""
_ALIGNMENT: Final = 32
_VERSION: Final = 3
_NUMBERS: Final = {row.name: number for number, row in GGUF_TYPES.items()}
_WIDE_ROW: Final = 256
_UINT32, _INT32, _TEXT, _ARRAY = 4, 5, 8, 9


@dataclass(frozen=True, kw_only=True)
class GgufTensor:
    """A tensor to be written: its format by ggml's name, the shape that it has in the model, and the values, or the bytes of its
    blocks in order."""

    type: str
    shape: tuple[int, ...]
    data: Tensor

    @property
    def row(self) -> int:
        """The length of its rows in the file: its own, unless no whole blocks fit; then 256 as city96's tools have, or 32."""
        weights = GGUF_TYPES[_NUMBERS[self.type]].weights
        if weights == 1 or not self.shape or self.shape[-1] % weights == 0:
            return self.shape[-1] if self.shape else 1
        return _WIDE_ROW if math.prod(self.shape) % _WIDE_ROW == 0 else weights

    @property
    def written_shape(self) -> tuple[int, ...]:
        """The shape in the file."""
        if not self.shape or self.row == self.shape[-1]:
            return self.shape
        return math.prod(self.shape) // self.row, self.row


def save_gguf(path: Path, tensors: Mapping[str, GgufTensor], said: Mapping[str, str | int],
              check: Callable[[Path], None]) -> Path | None:
    """Writes the tensors and what is `said` of them to a temporary file, which gets its name once `check` has read it; `check`
    raises for one that is not as it should be. An existing file is kept under a .bak name, which is returned.

    Raises ModelFileError, before anything is written, for a name that is too long and for a full disk.
    """
    if long := next((name for name in tensors if len(name.encode()) > LONGEST_NAME), ""):
        raise ModelFileError(f"{path}: the name {long!r} has {len(long.encode())} bytes; expected at most {LONGEST_NAME}, which "
                             "readers of GGUF allow. Write safetensors instead.")
    header = _header(tensors, said)
    sizes = [bytes_of(tensor.data).nbytes for tensor in tensors.values()]
    remove_abandoned(path)
    output = OutputFile(path, len(header) + sum(map(_padded, sizes)), direct=False)
    try:
        position = len(header)
        for tensor, size in zip(tensors.values(), sizes, strict=True):
            output.write(position, bytes_of(tensor.data))
            position += _padded(size)
        return output.commit(header, check=check)
    except BaseException:
        output.abort()
        raise


def _header(tensors: Mapping[str, GgufTensor], said: Mapping[str, str | int]) -> bytes:
    reshaped = {f"{SHAPES}{name}": tensor.shape for name, tensor in tensors.items() if tensor.written_shape != tensor.shape}
    data = MAGIC + struct.pack("<IQQ", _VERSION, len(tensors), len(said) + len(reshaped))
    data += b"".join(_entry(key, value) for key, value in said.items())
    data += b"".join(_shape_entry(key, shape) for key, shape in reshaped.items())
    position = 0
    for name, tensor in tensors.items():
        shape = tensor.written_shape
        data += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), _NUMBERS[tensor.type], position)
        position += _padded(bytes_of(tensor.data).nbytes)
    return data.ljust(_padded(len(data)), b"\0")


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _entry(key: str, value: str | int) -> bytes:
    if isinstance(value, int):
        return _text(key) + struct.pack("<II", _UINT32, value)
    return _text(key) + struct.pack("<I", _TEXT) + _text(value)


def _shape_entry(key: str, shape: Sequence[int]) -> bytes:
    return _text(key) + struct.pack(f"<IIQ{len(shape)}i", _ARRAY, _INT32, len(shape), *shape)


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
