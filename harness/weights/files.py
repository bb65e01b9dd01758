"""Safe reading of tensor files, safetensors or pickles. A file whose content does not match its extension is refused.
Nothing in a file is ever executed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.records.file_version import FileVersion, refuse_other_version, version_of
from harness.weights.pickles import load_pickle
from harness.weights.pickles import torch_word as _torch_dtype
from harness.weights.safetensors_header import DTYPE_BYTES, ModelFileError, StoredTensor, read_header

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DTYPE_BYTES", "PICKLES", "ModelFileError", "StoredTensor", "TensorFile", "_torch_dtype", "open_tensors",
           "read_header", "read_json"]

PICKLES: Final = (".ckpt", ".pt", ".pth", ".bin")


@dataclass(frozen=True, kw_only=True)
class TensorFile:
    """An opened file: the tensors it declares, in the order of their data, and for a pickle the loaded tensors
    (memory-mapped if the format allows). `version` is that of the file when it was opened."""

    path: Path
    stored: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]
    loaded: Mapping[str, Tensor] | None = field(default=None, repr=False)
    version: FileVersion | None = None

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """The named tensors on the CPU, in their stored dtypes. They may be views of the mapped file, which a later write to it
        changes. Raises KeyError for a name that is not in the file, ChangedFileError if it is not the file that was opened."""
        tensors = {name: self.loaded[name] for name in names} if self.loaded is not None else self._stored(tuple(names))
        self._refuse_changed()
        return tensors

    def _stored(self, names: tuple[str, ...]) -> dict[str, Tensor]:
        from safetensors import SafetensorError, safe_open

        entries = {name: self.stored[name] for name in names}
        self._refuse_changed()
        try:
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


def open_tensors(path: Path) -> TensorFile:
    """Opens a .safetensors file, of which only the header is read, or a pickle of tensors (.ckpt, .pt, .pth, .bin).

    Raises ModelFileError, also for Git LFS pointers, web pages, and pickles with another extension.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file; expected a .safetensors or .ckpt file. Check the path.")
    if path.suffix == ".gguf":
        raise ModelFileError(f"{path}: this is a GGUF file, which is quantized; expected .safetensors or a pickle. "
                             "Give the unquantized model as .safetensors.")
    if path.suffix not in (".safetensors", *PICKLES):
        raise ModelFileError(f"{path}: unknown kind of file {path.suffix!r}; expected .safetensors or one of "
                             f"{', '.join(PICKLES)}. Convert the model to .safetensors.")
    try:
        version = version_of(path)
        _refuse_impostors(path)
        if path.suffix == ".safetensors":
            stored, metadata = read_header(path)
            return TensorFile(path=path, stored=stored, metadata=metadata, version=version)
        tensors, stored, metadata = load_pickle(path)
    except OSError as error:
        raise ModelFileError(f"{path}: could not be read ({error.strerror}). Check the file and its permissions.") from error
    return TensorFile(path=path, stored=stored, metadata=metadata, loaded=tensors, version=version)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ModelFileError if the file cannot be read or holds something else."""
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: could not be read as JSON ({error}). Download it again.") from error
    if not isinstance(data, dict):
        raise ModelFileError(f"{path}: holds a {type(data).__name__}; expected an object. Download it again.")
    return data


def _refuse_impostors(path: Path) -> None:
    """Raises ModelFileError if the first bytes do not match the extension, naming the file's real kind."""
    with path.open("rb") as file:
        head = file.read(64)
    text = head.lstrip().lower()
    # A header of 0x280 bytes starts like a pickle of protocol 2, so what follows the length decides.
    header = head[8:9] == b"{"
    pickled = not header and head.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"))
    kind, do = "", ""
    if head.startswith(b"version https://git-lfs"):
        kind, do = "a Git LFS pointer, not the weights", "Run `git lfs pull` or download the file itself."
    elif text.startswith((b"<!doctype", b"<html", b"<?xml")):
        kind, do = "a web page, not the weights", "Download the file again; the link may need a login."
    elif head.startswith(b"GGUF"):
        kind, do = "a GGUF file", "Give the unquantized model as .safetensors."
    elif not head:
        kind, do = "an empty file", "Download it again."
    elif path.suffix == ".safetensors" and pickled:
        kind, do = "a pickle with the extension of a safetensors file", "Rename it to .ckpt if you trust its source."
    elif path.suffix in PICKLES and header:
        kind, do = f"a safetensors file with the extension of a pickle ({path.suffix})", "Rename it to .safetensors."
    if kind:
        raise ModelFileError(f"{path}: found {kind}; expected a file of tensors. {do}")
