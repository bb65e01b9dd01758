"""Writing a single safetensors file whole or not at all. The export of a recommended merge and the zoo call it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.weights.files import ModelFileError

if TYPE_CHECKING:
    from torch import Tensor

_SPARE_BYTES: Final = 16 * 1024 * 1024  # header, and room for others to write meanwhile


def save_single_file(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes the tensors, in their dtypes, to a temporary file beside `path`, syncs it to the disk and renames it.

    Tensors that share memory are written as copies. A path without .safetensors, or less free disk than the tensors
    need, raises ModelFileError before anything is written; a crash leaves the old file, if there was one.
    """
    from safetensors.torch import save_file

    if path.suffix != ".safetensors":
        raise ModelFileError(f"{path}: models are written as .safetensors only; give a path that ends so.")
    path.parent.mkdir(parents=True, exist_ok=True)
    needed = sum(t.numel() * t.element_size() for t in tensors.values()) + _SPARE_BYTES
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise ModelFileError(f"{path}: needs {needed} bytes, the disk has {free} left. "
                             "Free some or choose another disk.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(_unshared(tensors), temporary, metadata={"format": "pt", **metadata})
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """safetensors refuses tensors that are not contiguous or share a storage, which tied and sliced weights do."""
    seen: set[int] = set()
    written = {}
    for name, tensor in tensors.items():
        own = tensor.detach().contiguous()
        storage = own.untyped_storage()
        whole = storage.nbytes() == own.numel() * own.element_size()
        written[name] = own if whole and storage.data_ptr() not in seen else own.clone()
        seen.add(storage.data_ptr())
    return written


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
