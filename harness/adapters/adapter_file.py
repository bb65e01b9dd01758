"""Reads untrusted adapter files: names, dtypes and shapes from a .safetensors header, values only on request. Recognising
an adapter needs the header alone, so torch is imported only when values are read.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.adapters.live_plan import AdapterError

if TYPE_CHECKING:
    from torch import Tensor

DTYPE_BYTES: Final = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
                      "F32": 4, "I32": 4, "U32": 4, "F64": 8, "I64": 8, "U64": 8}
_SCALARS: Final = {"F16": "<e", "F32": "<f", "F64": "<d", "I8": "<b", "U8": "<B", "I16": "<h", "U16": "<H", "I32": "<i",
                   "U32": "<I", "I64": "<q", "U64": "<Q", "BOOL": "<?"}
_HEADER_LIMIT: Final = 100_000_000
"""The safetensors library's limit; a larger header is an attack or not a header."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A tensor's dtype, as safetensors spells it, and shape."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A file's tensors by name, and its other content.

    `number` returns the value of a tensor of one element, `load` all tensors. `extras` are a pickle's strings and numbers;
    `config` is a PEFT folder's adapter_config.json. `bare` marks a pickle that is a single tensor or a list without names.
    """

    name: str
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    number: Callable[[str], float]
    load: Callable[[], Mapping[str, Tensor]]
    extras: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    bare: str = ""


def quoted(key: str) -> str:
    """A name from a file for an error text: quoted, with control characters escaped, cut to the length of a line."""
    text = ascii(key) if not key.isprintable() else repr(key)
    return text if len(text) <= 160 else text[:150] + "...'"


def open_safetensors(path: Path) -> Stored:
    """Opens a .safetensors file by its header. Raises AdapterError for a truncated or invalid one."""
    with path.open("rb") as raw:
        head = raw.read(64)
        if kind := impostor(head):
            raise AdapterError(f"{path}: this is {kind}")
        size = struct.unpack("<Q", head[:8])[0]
        bytes_after_length = path.stat().st_size - 8
        if size > min(bytes_after_length, _HEADER_LIMIT):
            raise AdapterError(f"{path}: its header claims {size} bytes, but the file has {bytes_after_length}; "
                               "download it again")
        raw.seek(8)
        text = raw.read(size)
    metadata, entries, spans = _parse_header(path, text, bytes_after_length - size)

    def number(key: str) -> float:
        return _scalar(path, key, entries[key], 8 + size + spans[key])

    return Stored(name=path.name, entries=entries, metadata=metadata, number=number, load=lambda: _load(path))


def _load(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, AttributeError, TypeError, ValueError) as error:
        raise AdapterError(f"{path}: not a complete .safetensors file ({short(error)}); download it again") from None


def _parse_header(path: Path, text: bytes, data: int) -> tuple[dict[str, str], dict[str, Entry], dict[str, int]]:
    """Header strings, tensors, and the position of each one's first byte. Raises AdapterError unless the data is contiguous
    and fills the file exactly."""
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{path}: its header is not JSON ({short(error)}); download it again") from None
    if not isinstance(header, dict):
        raise AdapterError(f"{path}: its header is a {type(header).__name__}, expected an object; download it again")
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise AdapterError(f"{path}: __metadata__ of its header does not map names to text; save the file again")
    entries: dict[str, Entry] = {}
    spans: dict[str, int] = {}
    ends = []
    for key, value in header.items():
        entry, begin, end = _parse_entry(path, key, value)
        entries[key], spans[key] = entry, begin
        ends.append((begin, end))
    position = 0
    for begin, end in sorted(ends):
        if begin != position:
            raise AdapterError(f"{path}: its tensors are not contiguous; download it again")
        position = end
    if position != data:
        raise AdapterError(f"{path}: its header declares {position} bytes of tensors, the file has {data}; download it again")
    return metadata, entries, spans


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a name occurs twice")
    return entries


def _parse_entry(path: Path, key: str, value: object) -> tuple[Entry, int, int]:
    wrong = AdapterError(f"{path}: the header entry of {quoted(key)} is invalid; expected dtype, shape and data_offsets "
                         "that fit together. Download the file again.")
    if not isinstance(value, dict):
        raise wrong
    dtype, shape, offsets = value.get("dtype"), _naturals(value.get("shape")), _naturals(value.get("data_offsets"))
    if not isinstance(dtype, str) or shape is None or offsets is None or len(offsets) != 2:
        raise wrong
    if dtype not in DTYPE_BYTES:
        raise AdapterError(f"{path}: {quoted(key)} has the dtype {quoted(dtype)}; expected one of {', '.join(DTYPE_BYTES)}. "
                           "Save the file with float16 or float32 tensors.")
    begin, end = offsets
    if len(shape) > 8 or end - begin != math.prod(shape) * DTYPE_BYTES[dtype]:
        raise wrong
    return Entry(dtype=dtype, shape=tuple(shape)), begin, end


def _naturals(value: Any) -> list[int] | None:
    right = isinstance(value, list) and all(type(number) is int and number >= 0 for number in value)
    return value if right else None


def _scalar(path: Path, key: str, entry: Entry, position: int) -> float:
    if math.prod(entry.shape) != 1 or (entry.dtype not in _SCALARS and entry.dtype != "BF16"):
        raise AdapterError(f"{path}: {quoted(key)} is {entry.dtype} of shape {list(entry.shape)}, which is not an alpha; "
                           "expected one number")
    with path.open("rb") as raw:
        raw.seek(position)
        bytes_ = raw.read(DTYPE_BYTES[entry.dtype])
    if entry.dtype == "BF16":
        # The upper half of a float32.
        return float(struct.unpack("<f", b"\0\0" + bytes_)[0])
    return float(struct.unpack(_SCALARS[entry.dtype], bytes_)[0])


def short(error: Exception) -> str:
    """A library's error text on one line, at most 200 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def impostor(head: bytes) -> str:
    """What a file without a safetensors header is, from its first bytes, and what to do; empty for a safetensors file."""
    text = head.lstrip().lower()
    if not head:
        return "an empty file; download it again"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the weights; run `git lfs pull` or download the file itself"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not the weights; download the file again, the link may need a login"
    if head[8:9] == b"{":
        return ""
    if head.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return "a pickle with the extension of a safetensors file, which can run code on loading; convert it first"
    return "not a .safetensors file (it has no header); download it again"
