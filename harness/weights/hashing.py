"""Hashes of what files hold, so that a run can say which weights it had.
Materialising a candidate calls it, and reuse of earlier images rests on it.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from harness.weights.files import ModelFileError


def content_hash(path: Path) -> str:
    """SHA-256 (64 hex digits) of a file's bytes, or of a folder's sorted relative names and file hashes.

    Hidden files and folders do not count: hubs keep their bookkeeping there. A file is read once per process for as
    long as its size and time of change stay the same. ModelFileError when there is nothing at `path`.
    """
    if path.is_file():
        return _file_hash(path)
    if not path.is_dir():
        raise ModelFileError(f"{path}: no such file or folder. Check the path.")
    inside = (file for file in path.rglob("*") if file.is_file())
    names = {file.relative_to(path).as_posix(): file for file in inside}
    lines = [f"{name} {_file_hash(names[name])}\n" for name in sorted(names)
             if not any(part.startswith(".") for part in name.split("/"))]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _file_hash(path: Path) -> str:
    stat = path.stat()
    return _hash_of_version(path.resolve(), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _hash_of_version(path: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001  both make the memo's key
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
