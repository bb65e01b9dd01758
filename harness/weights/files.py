"""Safe reading of model files: safetensors headers parsed and validated here, pickles only as weights, folders by part.
`model.py` and the adapters' loader call it; nothing in a file is ever executed, and every refusal says what to do.
"""

from __future__ import annotations

import json
import math
import re
import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import Tensor

DTYPE_BYTES: Final = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}
PICKLES: Final = (".ckpt", ".pt", ".pth", ".bin")
_MAX_HEADER_BYTES: Final = 100_000_000  # the limit of the safetensors format itself
_TORCH_NAMES: Final = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "int16": "I16", "uint16": "U16", "float16": "F16", "bfloat16": "BF16", "int32": "I32", "uint32": "U32",
    "float32": "F32", "int64": "I64", "uint64": "U64", "float64": "F64",
}


class ModelFileError(ValueError):
    """A file that cannot be used as what it was given for. The message names the file, what was found, what was
    expected and what to do."""


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """A tensor as its file declares it; `dtype` in the words of safetensors: "F16"."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class TensorFile:
    """One opened file: what it declares, and, for a pickle, its tensors (memory-mapped where the format allows)."""

    path: Path
    stored: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]
    loaded: Mapping[str, Tensor] | None = field(default=None, repr=False)

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """The named tensors on the CPU, in their stored dtypes. KeyError when the file does not hold one."""
        if self.loaded is not None:
            return {name: self.loaded[name] for name in names}
        from safetensors import safe_open

        wanted = {name: self.stored[name] for name in names}
        with safe_open(self.path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in wanted}


def open_tensors(path: Path) -> TensorFile:
    """Opens a .safetensors or a pickle (.ckpt, .pt, .pth, .bin) of tensors; reads no weights of the former.

    Raises ModelFileError, also for what the extension hides: Git LFS pointers, web pages, pickles under another name.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file; expected a .safetensors or .ckpt file. Check the path.")
    if path.suffix not in (".safetensors", *PICKLES):
        raise ModelFileError(f"{path}: unknown kind of file {path.suffix!r}; expected .safetensors or one of "
                             f"{', '.join(PICKLES)}. Convert the model to .safetensors.")
    _refuse_impostors(path)
    if path.suffix == ".safetensors":
        stored, metadata = read_header(path)
        return TensorFile(path=path, stored=stored, metadata=metadata)
    return _open_pickle(path)


def read_header(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Tensors and metadata that a safetensors header declares.

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
    spans = {name: _span(path, name, entry) for name, entry in header.items()}
    _refuse_bad_layout(path, {name: span for name, (_, span) in spans.items()}, size - 8 - length)
    return {name: tensor for name, (tensor, _) in spans.items()}, {str(k): str(v) for k, v in metadata.items()}


def _parse_header(path: Path, text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name occurs twice")
        return found

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
        raise ModelFileError(f"{path}: {name!r} has the dtype {dtype!r}; expected one of {', '.join(DTYPE_BYTES)}. "
                             "Convert the model to F16 or F32.")
    expected = math.prod(shape) * DTYPE_BYTES[dtype]
    if end - begin != expected:
        raise ModelFileError(f"{path}: {name!r} takes {end - begin} bytes, but {dtype} {list(shape)} needs {expected}. "
                             "Download the file again.")
    return StoredTensor(dtype=dtype, shape=shape), (begin, end)


def _refuse_bad_layout(path: Path, spans: Mapping[str, tuple[int, int]], data_bytes: int) -> None:
    position, last = 0, "the header"
    for name, (begin, end) in sorted(spans.items(), key=lambda item: item[1]):
        if begin != position:
            what = "overlaps" if begin < position else "leaves a gap after"
            raise ModelFileError(f"{path}: the data of {name!r} {what} that of {last!r}; expected one after the other. "
                                 "Download the file again.")
        position, last = end, name
    if position != data_bytes:
        what = "truncated" if position > data_bytes else "longer than its header says"
        raise ModelFileError(f"{path}: {what}: the header declares {position} bytes of tensors, the file holds "
                             f"{data_bytes}. Download it again.")


def _refuse_impostors(path: Path) -> None:
    """Names what a file really is when its first bytes belong to something else than its extension says."""
    with path.open("rb") as file:
        head = file.read(64)
    text = head.lstrip().lower()
    # A header of 0x280 bytes starts like a pickle of protocol 2, so what follows the length decides.
    header = head[8:9] == b"{"
    pickled = not header and head.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"))
    found, do = "", ""
    if head.startswith(b"version https://git-lfs"):
        found, do = "a Git LFS pointer, not the weights", "Run `git lfs pull` or download the file itself."
    elif text.startswith((b"<!doctype", b"<html", b"<?xml")):
        found, do = "a web page, not the weights", "Download the file again; the link may need a login."
    elif head.startswith(b"GGUF"):
        found, do = "a GGUF file", "Give the unquantized model as .safetensors."
    elif not head:
        found, do = "an empty file", "Download it again."
    elif path.suffix == ".safetensors" and pickled:
        found, do = "a pickle with the name of a safetensors file", "Rename it to .ckpt if you trust where it is from."
    elif path.suffix in PICKLES and header:
        found, do = f"a safetensors file with the name of a pickle ({path.suffix})", "Rename it to .safetensors."
    if found:
        raise ModelFileError(f"{path}: found {found}; expected a file of tensors. {do}")


def _open_pickle(path: Path) -> TensorFile:
    """torch.load as weights only; `state_dict` wrappers are taken off, as deep as they go."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # the unpickler raises whatever the bytes provoke
        raise ModelFileError(f"{path}: could not be read as weights only ({_refusal(error)}); expected a pickle of "
                             "nothing but tensors. Convert it to .safetensors where you trust its source.") from None
    while isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    entries = content if isinstance(content, Mapping) else {}
    tensors = {str(name): value.detach() for name, value in entries.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise ModelFileError(f"{path}: holds no tensors ({type(content).__name__} of {sorted(map(str, entries))[:5]}); "
                             "expected a state dict. Give the checkpoint itself.")
    stored = {name: StoredTensor(dtype=_torch_dtype(path, name, tensor), shape=tuple(tensor.shape))
              for name, tensor in tensors.items()}
    others = sorted(str(name) for name in entries if str(name) not in tensors)
    metadata = {"not_tensors": ", ".join(others)} if others else {}
    return TensorFile(path=path, stored=stored, metadata=metadata, loaded=tensors)


def _refusal(error: Exception) -> str:
    """What torch refused, without its advice: it is to switch the protection off."""
    text = str(error)
    if found := re.search(r"GLOBAL ([\w.]*\w)", text):
        return f"it asks for {found[1]!r}, which could run code"
    if "weights_only" in text or "WeightsUnpickler" in text:
        return "its content is not that of a plain state dict"
    return f"{type(error).__name__}: {' '.join(text.split())[:200]!a}"


def _torch_dtype(path: Path, name: str, tensor: Tensor) -> str:
    word = str(tensor.dtype).removeprefix("torch.")
    if word not in _TORCH_NAMES:
        raise ModelFileError(f"{path}: {name!r} has the dtype {word}; expected one of {', '.join(_TORCH_NAMES)}. "
                             "Convert the model to float16 or float32.")
    return _TORCH_NAMES[word]
