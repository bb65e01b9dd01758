"""Reads untrusted adapter files: names, dtypes and shapes from a safetensors header, values only on request. Recognising
an adapter needs the header alone, so torch is imported only when values are read.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.adapters.live_plan import AdapterError
from harness.records.file_version import FileVersion, refuse_other_version, version_of
from harness.weights.safetensors_header import ModelFileError, StoredTensor, read_header

if TYPE_CHECKING:
    from torch import Tensor

_SCALARS: Final = {"F16": "<e", "F32": "<f", "F64": "<d", "I8": "<b", "U8": "<B", "I16": "<h", "U16": "<H", "I32": "<i",
                   "U32": "<I", "I64": "<q", "U64": "<Q", "BOOL": "<?"}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A tensor's dtype, as safetensors spells it, and shape."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A file's tensors by name, and its other content.

    `number` returns the value of a tensor of one element, `load` all tensors. `extras` are a pickle's strings and numbers;
    `config` is a PEFT folder's adapter_config.json. `bare` marks a `pickled` file that is a single tensor or a list without
    names; `misnamed` says that the suffix is that of another kind of file.
    """

    name: str
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    number: Callable[[str], float]
    load: Callable[[], Mapping[str, Tensor]]
    extras: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    bare: str = ""
    misnamed: str = ""
    pickled: bool = False


def quoted(key: str) -> str:
    """A name from a file for an error text: quoted, with control characters escaped, cut to the length of a line."""
    text = ascii(key) if not key.isprintable() else repr(key)
    return text if len(text) <= 160 else text[:150] + "...'"


def open_safetensors(path: Path) -> Stored:
    """Opens a safetensors file by its header. Raises AdapterError for a truncated or invalid one."""
    version = version_of(path)
    try:
        stored, metadata = read_header(path)
    except ModelFileError as error:
        raise AdapterError(str(error)) from None
    entries = {key: Entry(dtype=tensor.dtype, shape=tensor.shape) for key, tensor in stored.items()}

    def number(key: str) -> float:
        value = _scalar(path, key, stored[key])
        refuse_other_version(path, version)
        return value

    return Stored(name=path.name, entries=entries, metadata=metadata, number=number, load=lambda: _load(path, version))


def _load(path: Path, version: FileVersion) -> dict[str, Tensor]:
    """Copies of all tensors: the library gives views of the mapped file, which a later write to it would change."""
    from safetensors import SafetensorError, safe_open

    refuse_other_version(path, version)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, AttributeError, TypeError, ValueError) as error:
        raise AdapterError(f"{path}: not a complete safetensors file ({short(error)}); download it again") from None
    refuse_other_version(path, version)
    return tensors


def _scalar(path: Path, key: str, entry: StoredTensor) -> float:
    if math.prod(entry.shape) != 1 or (entry.dtype not in _SCALARS and entry.dtype != "BF16"):
        raise AdapterError(f"{path}: {quoted(key)} is {entry.dtype} of shape {list(entry.shape)}, which is not an alpha; "
                           "expected one number")
    with path.open("rb") as raw:
        raw.seek(entry.offset or 0)
        bytes_ = raw.read(entry.bytes)
    if entry.dtype == "BF16":
        # The upper half of a float32.
        return float(struct.unpack("<f", b"\0\0" + bytes_)[0])
    return float(struct.unpack(_SCALARS[entry.dtype], bytes_)[0])


def short(error: Exception) -> str:
    """A library's error text on one line, at most 200 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
