"""Reads and writes bytes of model files by position, in buffers of fixed size, so that a merge of any size needs little
memory."""

from __future__ import annotations

import errno
import glob
import mmap
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from harness.records.atomic import sync_folder
from harness.weights.files import ModelFileError

BLOCK: Final = 4096
"""Direct I/O must start and end on multiples of this many bytes, in the file and in memory."""
_SPARE_BYTES: Final = 16 * 1024 * 1024  # room for other processes that write meanwhile


class Output(Protocol):
    """The destination of an output file's bytes."""

    def write(self, offset: int, data: memoryview) -> None:
        """Writes `data` at `offset`. Called from several threads, for disjoint ranges."""


class InputFiles:
    """Model files opened for reading by position, each once, from any number of threads."""

    def __init__(self) -> None:
        self._handles: dict[Path, int] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()

    def read_into(self, path: Path, offset: int, buffer: memoryview) -> None:
        """Fills `buffer` with the file's bytes from `offset` on. Raises ModelFileError if the file is too short."""
        with self._lock:
            if path not in self._handles:
                self._handles[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            handle = self._handles[path]
        done = 0
        while done < len(buffer):
            count = os.preadv(handle, [buffer[done:]], offset + done)
            if count == 0:
                raise ModelFileError(f"{path}: ends before byte {offset + done}, but its header declares more: it was changed "
                                     "while it was read. Start again when nothing writes to it.")
            done += count


class OutputFile:
    """A file that gets its name only when it is complete.

    Bytes go to a temporary file in the same folder. `commit` writes the header, syncs to disk, keeps an existing file under
    a .bak name, and renames. Until then, and if the process is killed, the old file stays untouched. With `direct`, writes
    bypass the page cache if the file system allows it, and must then be whole blocks from page-aligned memory. Raises
    ModelFileError if the disk has less than `size` bytes left.
    """

    def __init__(self, path: Path, size: int, direct: bool) -> None:
        self.path, self.size = path, size
        refuse_full_disk(path, size)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._handle, self.direct = _open(self.temporary, flags, direct)
        self._open = True
        if self.direct:
            self._reserve(-(-size // BLOCK) * BLOCK)

    def write(self, offset: int, data: memoryview) -> None:
        """Writes `data` at `offset`. Raises OSError if the disk refuses the write."""
        done = 0
        while done < len(data):
            done += os.pwrite(self._handle, data[done:], offset + done)

    def commit(self, header: bytes, keep_old: bool = True, check: Callable[[Path], None] = lambda _: None) -> Path | None:
        """Writes the header at the start, syncs, lets `check` read the temporary file, and renames it. Returns the path of the
        backup of the old file, or None."""
        self._close()
        with self.temporary.open("r+b") as file:
            file.write(header)
            file.truncate(self.size)
            file.flush()
            os.fsync(file.fileno())
        check(self.temporary)
        backup = _keep_old(self.path) if keep_old else None
        self.temporary.replace(self.path)
        sync_folder(self.path.parent)
        return backup

    def abort(self) -> None:
        """Discards the temporary file."""
        self._close()
        self.temporary.unlink(missing_ok=True)

    def _reserve(self, size: int) -> None:
        """Reserves the disk space, so that parallel writes do not wait for each other to extend the file and a full disk
        fails now. Does nothing if the file system cannot reserve space."""
        try:
            os.posix_fallocate(self._handle, 0, size)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self.abort()
                raise

    def _close(self) -> None:
        """Closes once, because the number of a closed handle may be reused for another file."""
        if self._open:
            self._open = False
            os.close(self._handle)


def aligned_buffer(size: int) -> memoryview:
    """Page-aligned memory of at least `size` bytes, in whole blocks."""
    return memoryview(mmap.mmap(-1, max(BLOCK, -(-size // BLOCK) * BLOCK)))


def refuse_full_disk(path: Path, size: int) -> None:
    """Raises ModelFileError unless the disk of `path` has `size` bytes left, and some to spare."""
    place = path.parent
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < size + _SPARE_BYTES:
        raise ModelFileError(f"{path}: needs {size} bytes and {_SPARE_BYTES} to spare, the disk has {free} left. Free some "
                             "space or choose another disk.")


def remove_abandoned(path: Path) -> list[Path]:
    """Removes the temporary files for `path` that killed processes left behind, and returns their paths."""
    removed = []
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp") if path.parent.is_dir() else ():
        pid = temporary.name.removesuffix(".tmp").rpartition(".")[2]
        if pid.isdigit() and int(pid) != os.getpid() and not _alive(int(pid)):
            temporary.unlink(missing_ok=True)
            removed.append(temporary)
    return removed


def _open(path: Path, flags: int, direct: bool) -> tuple[int, bool]:
    if direct and hasattr(os, "O_DIRECT"):
        with suppress(OSError):  # tmpfs and some network file systems do not support it
            return os.open(path, flags | os.O_DIRECT, 0o666), True
    return os.open(path, flags, 0o666), False


def _keep_old(path: Path) -> Path | None:
    """Gives the file that is about to be replaced a second name, so that a complete file always exists under the first."""
    if not path.exists():
        return None
    number = 1
    while (backup := path.with_name(f"{path.name}.bak{number}")).exists():
        number += 1
    try:
        os.link(path, backup)
    except OSError:  # a file system without hard links
        shutil.copy2(path, backup)
    return backup


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
