"""Parses and validates the header of a safetensors file, in plain Python. Readers of other formats return the same
`StoredTensor`."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, Final

DTYPE_BYTES: Final = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}
EXPONENTS: Final = "F8_E8M0"
"""The dtype of scales that are powers of two; no weight has it."""
_MAX_HEADER_BYTES: Final = 100_000_000  # the safetensors library's limit
MAX_TENSORS: Final = 100_000  # twenty times what the largest model with its EMA copy has
MAX_DIMENSIONS: Final = 8
_FIELDS: Final = {"dtype", "shape", "data_offsets"}
MAX_NUMBERS: Final = 1 << 62  # above it, torch's 64-bit arithmetic overflows, even if another dimension is 0


class ModelFileError(ValueError):
    """A file that cannot be used. The message names the file, what was found, what was expected and what to do."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """The codes from which a tensor is dequantised: their format ("Q4_K", "nf4"), where they are in the file, and their bytes."""

    type: str
    offset: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """A tensor as its file declares it; `dtype` as safetensors spells it ("F16"). `offset` is the position of its first
    byte in the file, None if unknown (pickles) or if it is `packed`: then `dtype` is that of the values which are read."""

    dtype: str
    shape: tuple[int, ...]
    offset: int | None = None
    packed: Packed | None = None

    @property
    def bytes(self) -> int:
        """The number of bytes of its values in the file."""
        if self.packed is not None:
            return self.packed.bytes
        return math.prod(self.shape) * DTYPE_BYTES.get(self.dtype, 1)


def read_header(path: Path, exponents: bool = False) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """The tensors that a safetensors header declares, in the order of their data, and its metadata; with `exponents`, they may be
    scales of MX codes.

    Raises ModelFileError unless every tensor is inside the file, has the size of its shape and dtype, and neither overlaps
    another nor leaves a gap.
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
    metadata = header.pop("__metadata__", None) or {}
    if len(header) > MAX_TENSORS:
        raise ModelFileError(f"{path}: declares {len(header)} tensors; expected at most {MAX_TENSORS}, more than any model has. "
                             "Give the model itself.")
    dtypes = DTYPE_BYTES | {EXPONENTS: 1} if exponents else DTYPE_BYTES
    spans = {name: _span(path, name, entry, 8 + length, dtypes) for name, entry in header.items()}
    ordered = dict(sorted(spans.items(), key=lambda item: item[1][1]))
    _refuse_bad_layout(path, {name: span for name, (_, span) in ordered.items()}, size - 8 - length)
    if any(entry.keys() != _FIELDS for entry in header.values()):
        _refuse_what_the_library_refuses(path)
    return {name: tensor for name, (tensor, _) in ordered.items()}, metadata


def _parse_header(path: Path, text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) != len(pairs):
            raise ValueError("a name occurs twice")
        return entries

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_constant=_refused, parse_int=_natural)
        "".join(header).encode()  # JSON can name half a surrogate, which is no text
        if not isinstance(header, dict):
            raise TypeError("not an object of tensors")  # noqa: TRY301  one message for every invalid header
    except (ValueError, TypeError, RecursionError) as error:
        raise ModelFileError(f"{path}: its header is not the JSON of a safetensors file ({error}). "
                             "Download it again.") from error
    metadata = header.get("__metadata__")
    texts = {} if metadata is None else metadata
    if not isinstance(texts, dict) or not all(_is_text(text) for item in texts.items() for text in item):
        raise ModelFileError(f"{path}: __metadata__ of its header is {ascii(metadata)[:80]}; expected text by name. "
                             "Save the file again.")
    return header


def _is_text(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refused(word: str) -> float:
    raise ValueError(f"{word} is not a number")


def _natural(digits: str) -> int:
    """A whole number, and -1 for the "-0" that Python reads and the library does not."""
    return int(digits) or (-1 if digits.startswith("-") else 0)


def _refuse_what_the_library_refuses(path: Path) -> None:
    """ModelFileError for a header that the safetensors library does not read. Asked about entries with fields of their own, which
    the library looks at and then ignores; importing it costs more than all else that is read here."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            return
    except SafetensorError as error:
        raise ModelFileError(f"{path}: its header is not one that the safetensors library reads "
                             f"({' '.join(str(error).split())[:200]!a}). Download it again.") from None


def _span(path: Path, name: str, entry: Any, start: int, dtypes: Mapping[str, int]) -> tuple[StoredTensor, tuple[int, int]]:
    """The tensor of one header entry, and the range of its bytes in the data, which begin at `start` in the file. Raises
    ModelFileError for an invalid entry."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        numbers = (*shape, begin, end)
        valid = all(type(n) is int and n >= 0 for n in numbers) and isinstance(dtype, str)
    except (KeyError, TypeError, ValueError):
        valid = False
    if not valid:
        raise ModelFileError(f"{path}: the header entry of {name!r} is {ascii(entry)[:80]}; expected dtype, shape and "
                             "data_offsets. Download the file again.")
    if dtype not in dtypes:
        raise ModelFileError(f"{path}: {name!r} has the dtype {ascii(dtype)[:40]}; expected one of "
                             f"{', '.join(DTYPE_BYTES)}. Convert the model to F16 or F32.")
    if len(shape) > MAX_DIMENSIONS or math.prod(max(n, 1) for n in shape) > MAX_NUMBERS:
        raise ModelFileError(f"{path}: {name!r} has the shape {ascii(list(shape))[:60]}; expected at most "
                             f"{MAX_DIMENSIONS} dimensions and a size that fits into memory. Download the file again.")
    expected = math.prod(shape) * dtypes[dtype]
    if end - begin != expected:
        raise ModelFileError(f"{path}: {name!r} takes {end - begin} bytes, but {dtype} {list(shape)} needs {expected}. "
                             "Download the file again.")
    return StoredTensor(dtype=dtype, shape=shape, offset=start + begin), (begin, end)


def _refuse_bad_layout(path: Path, spans: Mapping[str, tuple[int, int]], data_bytes: int) -> None:
    position, last = 0, "the header"
    for name, (begin, end) in spans.items():
        if begin != position:
            what = "overlaps" if begin < position else "leaves a gap after"
            raise ModelFileError(f"{path}: the data of {name!r} {what} that of {last!r}; expected contiguous data. "
                                 "Download the file again.")
        position, last = end, name
    if position > data_bytes:
        raise ModelFileError(f"{path}: truncated: the header declares {position} bytes of tensors, the file holds "
                             f"{data_bytes}. Download it again.")
    if position < data_bytes:
        extra = data_bytes - position
        copy = path.with_name(f"{path.stem}-trimmed.safetensors")
        raise ModelFileError(f"{path}: longer than its header says: its last {extra} bytes belong to no tensor, and the "
                             "safetensors library refuses such a file. Make a copy without them: "
                             f"head -c {path.stat().st_size - extra} {quote(str(path))} > {quote(str(copy))}")
