"""The header of a safetensors file: parsed and validated here, in plain Python, before anything trusts a word of it. The other
ways of storing tensors are told in the same `StoredTensor`."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

DTYPE_BYTES: Final = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}
_MAX_HEADER_BYTES: Final = 100_000_000  # the limit of the safetensors format itself
_MAX_TENSORS: Final = 100_000  # twenty times what the largest model with its EMA copy has
_MAX_DIMENSIONS: Final = 8
_MAX_NUMBERS: Final = 1 << 62  # beyond it torch's own 64-bit arithmetic overflows, also where another dimension is 0


class ModelFileError(ValueError):
    """A file that cannot be used as what it was given for. The message names the file, what was found, what was
    expected and what to do."""


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """A tensor as its file declares it; `dtype` in the words of safetensors: "F16". `offset` is the place of its first
    byte in the file, None where that is not known (pickles)."""

    dtype: str
    shape: tuple[int, ...]
    offset: int | None = None

    @property
    def bytes(self) -> int:
        """What its values take in the file."""
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]


def read_header(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Tensors, in the order of their data, and metadata that a safetensors header declares.

    Every tensor must lie inside the file, have the size of its shape and dtype, and neither overlap nor leave a gap.
    Raises ModelFileError otherwise.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= _MAX_HEADER_BYTES:
            raise ModelFileError(f"{path}: its first 8 bytes give a header of {length} bytes, expected 2 to "
                                 f"{_MAX_HEADER_BYTES}: this is not a safetensors file. Download it again.")
        if 8 + length > size:
            raise ModelFileError(f"{path}: truncated: the header alone is {length} bytes, the file {size}. "
                                 "Download it again.")
        text = file.read(length)
    header = _parse_header(path, text)
    metadata = header.pop("__metadata__", {})
    if len(header) > _MAX_TENSORS:
        raise ModelFileError(f"{path}: declares {len(header)} tensors; expected at most {_MAX_TENSORS}, more than any model has. "
                             "Give the model itself.")
    spans = {name: _span(path, name, entry) for name, entry in header.items()}
    ordered = dict(sorted(spans.items(), key=lambda item: item[1][1]))
    _refuse_bad_layout(path, {name: span for name, (_, span) in ordered.items()}, size - 8 - length)
    stored = {name: replace(tensor, offset=8 + length + begin) for name, (tensor, (begin, _)) in ordered.items()}
    return stored, {str(k): str(v) for k, v in metadata.items()}


def _parse_header(path: Path, text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) != len(pairs):
            raise ValueError("a name occurs twice")
        return entries

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
        if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
            raise TypeError("not an object of tensors")  # noqa: TRY301  one message for all that is wrong with a header
    except (ValueError, TypeError, RecursionError) as error:
        raise ModelFileError(f"{path}: its header is not the JSON of a safetensors file ({error}). "
                             "Download it again.") from error
    return header


def _span(path: Path, name: str, entry: Any) -> tuple[StoredTensor, tuple[int, int]]:
    """One header entry, checked by itself."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        numbers = (*shape, begin, end)
        valid = all(type(n) is int and n >= 0 for n in numbers) and isinstance(dtype, str)
    except (KeyError, TypeError, ValueError):
        valid = False
    if not valid:
        raise ModelFileError(f"{path}: the header entry of {name!r} is {ascii(entry)[:80]}; expected dtype, shape and "
                             "data_offsets. Download the file again.")
    if dtype not in DTYPE_BYTES:
        raise ModelFileError(f"{path}: {name!r} has the dtype {ascii(dtype)[:40]}; expected one of "
                             f"{', '.join(DTYPE_BYTES)}. Convert the model to F16 or F32.")
    if len(shape) > _MAX_DIMENSIONS or math.prod(max(n, 1) for n in shape) > _MAX_NUMBERS:
        raise ModelFileError(f"{path}: {name!r} has the shape {ascii(list(shape))[:60]}; expected at most "
                             f"{_MAX_DIMENSIONS} dimensions of a size that a computer can hold. Download the file again.")
    expected = math.prod(shape) * DTYPE_BYTES[dtype]
    if end - begin != expected:
        raise ModelFileError(f"{path}: {name!r} takes {end - begin} bytes, but {dtype} {list(shape)} needs {expected}. "
                             "Download the file again.")
    return StoredTensor(dtype=dtype, shape=shape), (begin, end)


def _refuse_bad_layout(path: Path, spans: Mapping[str, tuple[int, int]], data_bytes: int) -> None:
    position, last = 0, "the header"
    for name, (begin, end) in spans.items():
        if begin != position:
            what = "overlaps" if begin < position else "leaves a gap after"
            raise ModelFileError(f"{path}: the data of {name!r} {what} that of {last!r}; expected one after the other. "
                                 "Download the file again.")
        position, last = end, name
    if position != data_bytes:
        what = "truncated" if position > data_bytes else "longer than its header says"
        raise ModelFileError(f"{path}: {what}: the header declares {position} bytes of tensors, the file holds "
                             f"{data_bytes}. Download it again.")
