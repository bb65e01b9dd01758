"""Atomic writing of files: into a temporary file in the same folder, which is then renamed."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError within that names no file, as those of a write do, leaves it with the name of `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def write_atomically(path: Path, data: bytes, *, sync: bool = True, added: bool = False) -> None:
    """Writes `data` to a temporary file next to `path` and renames it: a reader sees the old file, the new one, or none. With
    `added`, raises FileExistsError where there is a file; without hard links, of several that add one at once the last does.

    With `sync` the data is on the disk before the rename. Without it, the data survives a killed process but not a power cut,
    which is enough if readers validate the file, or many files are synced at once later. Any number of processes and threads
    may write one path, also on a shared file system. Missing folders are created. After an OSError nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        try:
            file = temporary.open("wb")
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = temporary.open("wb")
        with naming(path), file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        with naming(path):
            if added:
                _add(temporary, path)
            else:
                temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _add(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # no hard links here
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        temporary.replace(path)
    else:
        temporary.unlink()


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
