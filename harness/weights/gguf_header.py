"""Parses and validates the header of a GGUF file, in plain Python: the tensors, with the shapes that their tools gave them, and
the texts. Nothing that a file says about itself is believed before it is known to fit into the file."""

from __future__ import annotations

import io
import math
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.weights.gguf_types import GGUF_TYPES, NOT_READ, GgufType
from harness.weights.safetensors_header import (
    MAX_DIMENSIONS,
    MAX_NUMBERS,
    MAX_TENSORS,
    ModelFileError,
    Packed,
    StoredTensor,
)

MAGIC: Final = b"GGUF"
SHAPES: Final = "comfy.gguf.orig_shape."
"""Where city96's tools keep the shape of a tensor whose rows they had to make as long as a block."""
_VERSIONS: Final = (2, 3)
_MAX_HEADER_BYTES: Final = 100_000_000
_MAX_ENTRIES: Final = 10_000
_MAX_TEXTS: Final = 2_000_000  # more than the tokens and merges of the largest tokenizer
_MAX_NAME_BYTES: Final = 1000  # ggml allows 64, stable-diffusion.cpp 128
_MAX_KEPT_BYTES: Final = 65_536
_MAX_ALIGNMENT: Final = 1 << 20
_ALIGNMENT: Final = "general.alignment"
_NUMBERS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
_DOWNLOAD: Final = "Download it again."


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One tensor as the header lists it; `start` is relative to the data."""

    name: str
    shape: tuple[int, ...]
    type: GgufType
    start: int

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) // self.type.weights * self.type.bytes


def read_gguf_header(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """The tensors of a GGUF file, in the order of their data, and its texts and single numbers as text. Tensors in blocks have
    the dtype of the values that they are read as, F32.

    Raises ModelFileError for another version, a format that is not read (by name), and a header that does not fit the file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        reader = _Reader(path, file, min(size, _MAX_HEADER_BYTES), size)
        tensor_count, entry_count = _counts(path, reader)
        said = _entries(path, reader, entry_count)
        listed = [_tensor(path, reader) for _ in range(tensor_count)]
        end = reader.position
    alignment = said.pop(_ALIGNMENT, 32)
    if not isinstance(alignment, int) or not 0 < alignment <= _MAX_ALIGNMENT or alignment & (alignment - 1):
        raise ModelFileError(f"{path}: {_ALIGNMENT} is {alignment!r:.40}; expected a power of two up to {_MAX_ALIGNMENT}. "
                             f"{_DOWNLOAD}")
    if twice := [name for name, count in Counter(entry.name for entry in listed).items() if count > 1]:
        raise ModelFileError(f"{path}: the tensor {twice[0]!r} is listed twice; expected it once. {_DOWNLOAD}")
    data = -(-end // alignment) * alignment
    _refuse_bad_layout(path, listed, alignment, size - data)
    stored = {entry.name: _stored(path, entry, data, said.get(SHAPES + entry.name)) for entry in listed}
    texts = {key: value if isinstance(value, str) else str(value) for key, value in said.items()
             if not key.startswith(SHAPES) and not isinstance(value, list)}
    return stored, texts


class _Reader:
    """Values one after the other, none from beyond the part of the file that may be header."""

    def __init__(self, path: Path, file: io.BufferedReader, most: int, size: int) -> None:
        self.path, self.position, self._file, self._most, self._size = path, 0, file, most, size
        self._texts_left = _MAX_TEXTS

    def bytes(self, count: int) -> bytes:
        self._refuse_beyond(count)
        self.position += count
        data = self._file.read(count)
        if len(data) != count:
            raise ModelFileError(f"{self.path}: ends within its header: it was changed while it was read. Start again when "
                                 "nothing writes to it.")
        return data

    def skip(self, count: int) -> None:
        self._refuse_beyond(count)
        self.position += count
        self._file.seek(self.position)

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.bytes(struct.calcsize(f"<{code}")))[0]

    def text(self, what: str, most: int) -> str:
        length = self.number("Q")
        if length > most:
            raise ModelFileError(f"{self.path}: {what} has {length} bytes; expected at most {most}. {_DOWNLOAD}")
        try:
            return self.bytes(length).decode()
        except UnicodeDecodeError:
            raise ModelFileError(f"{self.path}: {what} is not UTF-8. {_DOWNLOAD}") from None

    def skip_texts(self, count: int) -> None:
        """Passes over texts. Each takes time, so a file may only have so many of them."""
        self._texts_left -= count
        if self._texts_left < 0:
            raise ModelFileError(f"{self.path}: lists more than {_MAX_TEXTS} texts; expected fewer. {_DOWNLOAD}")
        for _ in range(count):
            self.skip(self.number("Q"))

    def _refuse_beyond(self, count: int) -> None:
        if self.position + count <= self._most:
            return
        if self._most < self._size:
            raise ModelFileError(f"{self.path}: its header has more than {self._most} bytes; expected fewer. {_DOWNLOAD}")
        raise ModelFileError(f"{self.path}: truncated: the header alone needs {self.position + count} bytes, the file has "
                             f"{self._size}. {_DOWNLOAD}")


def _counts(path: Path, reader: _Reader) -> tuple[int, int]:
    """The numbers of tensors and of entries, after a check of the version."""
    if reader.bytes(4) != MAGIC:
        raise ModelFileError(f"{path}: does not begin with {MAGIC.decode()}; expected a GGUF file. {_DOWNLOAD}")
    version = reader.number("I")
    if version not in _VERSIONS:
        what = "a GGUF file of a big-endian machine" if version and not version & 0xFFFF else f"a GGUF file of version {version}"
        raise ModelFileError(f"{path}: {what}; expected version {' or '.join(map(str, _VERSIONS))}. Download it again, or "
                             "convert the model again.")
    tensors, entries = reader.number("Q"), reader.number("Q")
    for count, most, what in ((tensors, MAX_TENSORS, "tensors"), (entries, _MAX_ENTRIES, "entries")):
        if count > most:
            raise ModelFileError(f"{path}: a GGUF file that declares {count} {what}; expected at most {most}, more than any "
                                 f"model has. {_DOWNLOAD}")
    return tensors, entries


def _entries(path: Path, reader: _Reader, count: int) -> dict[str, Any]:
    """{key: text, number, or numbers of a shape}. Long texts and all other lists are passed over."""
    said: dict[str, Any] = {}
    for _ in range(count):
        key = reader.text("the name of an entry", _MAX_KEPT_BYTES)
        if key in said:
            raise ModelFileError(f"{path}: the entry {key[:80]!a} occurs twice; expected it once. {_DOWNLOAD}")
        said[key] = _value(path, reader, key, reader.number("I"))
    return {key: value for key, value in said.items() if value is not None}


def _value(path: Path, reader: _Reader, key: str, kind: int) -> Any:
    if kind in _NUMBERS:
        return reader.number(_NUMBERS[kind])
    if kind == _TEXT:
        return _passable_text(reader, key)
    if kind != _ARRAY:
        raise ModelFileError(f"{path}: the entry {key[:80]!a} is of the unknown kind {kind}. {_DOWNLOAD}")
    inner, count = reader.number("I"), reader.number("Q")
    if inner in _NUMBERS and key.startswith(SHAPES) and count <= MAX_DIMENSIONS:
        return [reader.number(_NUMBERS[inner]) for _ in range(count)]
    if inner in _NUMBERS:
        reader.skip(count * struct.calcsize(f"<{_NUMBERS[inner]}"))
    elif inner == _TEXT:
        reader.skip_texts(count)
    else:
        raise ModelFileError(f"{path}: the entry {key[:80]!a} is a list of values of the kind {inner}; expected numbers or "
                             f"texts. {_DOWNLOAD}")
    return [] if key.startswith(SHAPES) else None


def _passable_text(reader: _Reader, key: str) -> str | None:
    length = reader.number("Q")
    if length > _MAX_KEPT_BYTES:
        reader.skip(length)
        return None
    try:
        return reader.bytes(length).decode()
    except UnicodeDecodeError:
        raise ModelFileError(f"{reader.path}: the text of the entry {key[:80]!a} is not UTF-8. {_DOWNLOAD}") from None


def _tensor(path: Path, reader: _Reader) -> _Entry:
    name = reader.text("the name of a tensor", _MAX_NAME_BYTES)
    count = reader.number("I")
    if count > MAX_DIMENSIONS:
        raise ModelFileError(f"{path}: {name!r} has {count} dimensions; expected at most {MAX_DIMENSIONS}. {_DOWNLOAD}")
    shape = tuple(reversed([reader.number("Q") for _ in range(count)]))
    number, start = reader.number("I"), reader.number("Q")
    if math.prod(max(length, 1) for length in shape) > MAX_NUMBERS:
        raise ModelFileError(f"{path}: {name!r} has the shape {ascii(list(shape))[:60]}; expected a size that fits into memory. "
                             f"{_DOWNLOAD}")
    if number not in GGUF_TYPES:
        word = NOT_READ.get(number, f"number {number}")
        raise ModelFileError(f"{path}: {name!r} is stored as {word}, a GGUF format that is not read; expected one of "
                             f"{', '.join(row.name for row in GGUF_TYPES.values())}. Give the model in one of these, or "
                             "unquantized.")
    row = GGUF_TYPES[number]
    if (shape[-1] if shape else 1) % row.weights:
        raise ModelFileError(f"{path}: {name!r} is {row.name} {list(shape)}; expected rows of whole blocks of {row.weights}. "
                             f"{_DOWNLOAD}")
    return _Entry(name=name, shape=shape, type=row, start=start)


def _refuse_bad_layout(path: Path, listed: Sequence[_Entry], alignment: int, data_bytes: int) -> None:
    """Raises ModelFileError unless the tensors follow one another in the order of the header, each at the next multiple of the
    alignment, as ggml itself demands, and the last one ends within the file."""
    position, end = 0, 0
    for entry in listed:
        if entry.start != position:
            raise ModelFileError(f"{path}: the data of {entry.name!r} are at byte {entry.start}; expected {position}, after "
                                 f"those of the tensor before. {_DOWNLOAD}")
        end = position + entry.bytes
        position = -(-end // alignment) * alignment
    if end > data_bytes:
        raise ModelFileError(f"{path}: truncated: the header declares {end} bytes of tensors, the file holds "
                             f"{max(data_bytes, 0)}. {_DOWNLOAD}")


def _stored(path: Path, entry: _Entry, data: int, said: Any) -> StoredTensor:
    shape = entry.shape
    if said is not None:
        valid = isinstance(said, list) and all(type(length) is int and length >= 0 for length in said)
        if not valid or math.prod(said) != math.prod(shape):
            raise ModelFileError(f"{path}: {SHAPES}{entry.name} is {said!r:.80}; expected a shape of the {math.prod(shape)} "
                                 f"values of {entry.name!r}. {_DOWNLOAD}")
        shape = tuple(said)
    if entry.type.dtype:
        return StoredTensor(dtype=entry.type.dtype, shape=shape, offset=data + entry.start)
    return StoredTensor(dtype="F32", shape=shape, packed=Packed(type=entry.type.name, offset=data + entry.start,
                                                                bytes=entry.bytes))


def types_of(stored: Mapping[str, StoredTensor]) -> dict[str, int]:
    """How many tensors there are of each format, the most frequent first."""
    return dict(Counter(tensor.packed.type if tensor.packed else tensor.dtype for tensor in stored.values()).most_common())
