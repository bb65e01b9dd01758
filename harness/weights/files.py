"""Safe reading of tensor files, safetensors, pickles or GGUF, as their content says. Nothing in a file is ever executed."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.records.file_version import FileVersion, refuse_other_version, version_of
from harness.weights.coded_tensors import with_values
from harness.weights.codes import Shard
from harness.weights.content import GGUF, PICKLE, SAFETENSORS, content_of, trouble_of
from harness.weights.gguf_header import read_gguf_header
from harness.weights.pickles import TORCH_NAMES, load_pickle
from harness.weights.pickles import torch_word as _torch_dtype
from harness.weights.safetensors_header import DTYPE_BYTES, ModelFileError, StoredTensor, read_header

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DTYPE_BYTES", "ModelFileError", "StoredTensor", "TensorFile", "_torch_dtype", "open_tensors",
           "read_header", "read_json"]

_TORCH_OF: Final = {word: name for name, word in TORCH_NAMES.items()}
_FEW: Final = 4
_SMALL: Final = 2 ** 24
"""The most tensors and bytes that are read without the file's header."""


@dataclass(frozen=True, kw_only=True)
class TensorFile:
    """An opened file: the tensors it declares, in the order of their data, and for a pickle the loaded tensors
    (memory-mapped if the format allows). `kind` is what it is, SAFETENSORS, PICKLE or GGUF; `version` is that of the file when it
    was opened. `gone` are the names of codes and scales in it, in whose place `stored` has the weights that they stand for."""

    path: Path
    stored: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]
    loaded: Mapping[str, Tensor] | None = field(default=None, repr=False)
    version: FileVersion | None = None
    kind: str = SAFETENSORS
    gone: Collection[str] = ()

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """The named tensors on the CPU, in their stored dtypes, packed ones dequantised. They may be views of the mapped file,
        which a later write to it changes. Raises KeyError for a name that is not in the file, ChangedFileError if it is not the
        file that was opened."""
        tensors = {name: self.loaded[name] for name in names} if self.loaded is not None else self._stored(tuple(names))
        self._refuse_changed()
        return tensors

    def _stored(self, names: tuple[str, ...]) -> dict[str, Tensor]:
        from safetensors import SafetensorError, safe_open

        entries = {name: self.stored[name] for name in names}
        self._refuse_changed()
        try:
            if self.kind == GGUF:
                return _of_gguf(self.path, entries)
            if coded := {name: entry for name, entry in entries.items() if entry.packed}:
                plain = self._stored(tuple(name for name in names if name not in coded))
                return plain | _of_codes(self.path, coded)
            if _are_few(entries):
                return _few(self.path, entries)
            with safe_open(self.path, framework="pt", device="cpu") as file:
                return {name: file.get_tensor(name) for name in entries}
        except (OSError, SafetensorError) as error:
            self._refuse_changed()
            reason = " ".join(str(error).split())[:200]
            raise ModelFileError(f"{self.path}: could not be read ({reason!a}), though its header was sound when it was opened. "
                                 "Start again when nothing writes to it.") from error

    def _refuse_changed(self) -> None:
        if self.version is not None:
            refuse_other_version(self.path, self.version)


def _are_few(entries: Mapping[str, StoredTensor]) -> bool:
    return len(entries) <= _FEW and all(entry.offset is not None for entry in entries.values()) and (
        sum(entry.bytes for entry in entries.values()) <= _SMALL)


def _few(path: Path, entries: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """Some tensors by their place in the file: safetensors itself reads the whole header again for each call, which takes longer
    than a small tensor."""
    import torch

    tensors = {}
    with path.open("rb") as file:
        for name, entry in entries.items():
            data, dtype = bytearray(entry.bytes), getattr(torch, _TORCH_OF[entry.dtype])
            file.seek(entry.offset or 0)
            if file.readinto(data) != entry.bytes:
                raise OSError(f"it ends within {name!r}")
            # torch makes no tensor of an empty buffer.
            tensors[name] = (torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)).reshape(entry.shape)
    return tensors


def _of_gguf(path: Path, entries: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """The tensors of a GGUF file: dequantised one by one, so that memory holds the blocks of a piece of one at a time."""
    from harness.weights.gguf_blocks import read_packed

    return {name: read_packed(path, entry) if entry.packed else _few(path, {name: entry})[name]
            for name, entry in entries.items()}


def _of_codes(path: Path, entries: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    from harness.weights.code_values import read_codes

    return {name: read_codes(path, entry) for name, entry in entries.items()}


def open_tensors(path: Path) -> TensorFile:
    """Opens a safetensors or GGUF file, of which only the header is read, or a pickle of tensors, as its content says.

    Raises ModelFileError, also for Git LFS pointers, web pages and other files that are not of tensors.
    """
    return open_shards([path])[0]


def open_shards(paths: Sequence[Path]) -> list[TensorFile]:
    """Opens the files of one component in this way: the scales of codes may be in another of them."""
    files = [_opened(path) for path in paths]
    shards = with_values([Shard(path=file.path, stored=file.stored, metadata=file.metadata) for file in files
                          if file.kind == SAFETENSORS])
    by_path = {shard.path: shard for shard in shards}
    return [replace(file, stored=by_path[file.path].stored, metadata=by_path[file.path].metadata, gone=by_path[file.path].gone)
            if file.path in by_path else file for file in files]


def _opened(path: Path) -> TensorFile:
    try:
        content = content_of(path)
        if wrong := trouble_of(content):
            raise ModelFileError(f"{path}: {wrong}")
        version = version_of(path)
        if content.kind == SAFETENSORS:
            stored, metadata = read_header(path, exponents=True)
            return TensorFile(path=path, stored=stored, metadata=metadata, version=version)
        if content.kind == GGUF:
            stored, metadata = read_gguf_header(path)
            return TensorFile(path=path, stored=stored, metadata=metadata, version=version, kind=GGUF)
        tensors, stored, metadata = load_pickle(path)
    except OSError as error:
        raise ModelFileError(f"{path}: could not be read ({error.strerror}). Check the file and its permissions.") from error
    return TensorFile(path=path, stored=stored, metadata=metadata, loaded=tensors, version=version, kind=PICKLE)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ModelFileError if the file cannot be read or holds something else."""
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: could not be read as JSON ({error}). Download it again.") from error
    if not isinstance(data, dict):
        raise ModelFileError(f"{path}: holds a {type(data).__name__}; expected an object. Download it again.")
    return data
