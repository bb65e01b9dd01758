"""Three hashes of a safetensors file: of the whole file, its header and its data. They show where a file was changed."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

from harness.weights import ModelFileError
from harness.weights.content import content_of

_AT_ONCE: Final = 1 << 20
_LARGEST_HEADER: Final = 100_000_000


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """BLAKE3 (64 hex digits) of a whole file, of its header (length and JSON) and of its data; its size in bytes."""

    blake3: str
    header_blake3: str
    data_blake3: str
    size: int


def weigh(path: Path) -> Weighed:
    """Hashes the file, reading it once and never using a cached hash. Raises ModelFileError if it is not a regular file, cannot
    be read, or is a Git LFS pointer."""
    content = content_of(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: {content.what}; expected a file. {content.advice}")
    whole, header, data, size = blake3(), blake3(), blake3(), 0
    try:
        with path.open("rb", buffering=0) as file:
            start = file.read(64)
            if start.startswith(b"version https://git-lfs"):
                raise ModelFileError(f"{path}: found a Git LFS pointer, not the weights. Run `git lfs pull`.")
            file.seek(0)
            length = 8 + struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else 0
            header_left = length if length <= _LARGEST_HEADER else 0
            while block := file.read(min(_AT_ONCE, header_left) if header_left else _AT_ONCE):
                whole.update(block)
                (header if header_left else data).update(block)
                header_left -= len(block) if header_left else 0
                size += len(block)
    except OSError as error:
        raise ModelFileError(f"{path}: could not be read ({error.strerror}). Check the file and its permissions.") from error
    return Weighed(blake3=whole.hexdigest(), header_blake3=header.hexdigest(), data_blake3=data.hexdigest(), size=size)
