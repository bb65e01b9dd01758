"""Bytes of model files in and out by position, in buffers of fixed size: what a merge of any size needs of memory. Nothing
here knows what the bytes mean."""

from __future__ import annotations

import errno
import glob
import mmap
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from harness.records.atomic import sync_folder
from harness.weights.files import ModelFileError

BLOCK: Final = 4096
"""Transfers past the page cache must start and end on multiples of this many bytes, in the file and in memory."""
_SPARE_BYTES: Final = 16 * 1024 * 1024  # room for others to write meanwhile


class Output(Protocol):
    """Where the bytes of a made file go."""

    def write(self, offset: int, data: memoryview) -> None:
        """Takes `data` as the file's bytes from `offset` on; called from several threads, for disjoint ranges."""


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
        """Fills `buffer` with the file's bytes from `offset` on. ModelFileError when the file ends before."""
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
    """A file that appears under its name when it is complete, and not before.

    Bytes go to a temporary file beside it; `commit` writes the header last, syncs all to the disk, keeps a file that
    was there before under a name with .bak, and renames. Until then, and when the process is killed, nothing of the
    old file is touched. With `direct`, writes go past the page cache where the file system allows: they must be whole
    blocks then, from page-aligned memory. ModelFileError when the disk has less than `size` bytes left.
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
        """Writes `data` at `offset`; a write that the disk refuses raises OSError."""
        done = 0
        while done < len(data):
            done += os.pwrite(self._handle, data[done:], offset + done)

    def commit(self, header: bytes, keep_old: bool = True) -> Path | None:
        """Writes the header to the start, makes all of it durable and renames. The path of the kept old file, if any."""
        self._close()
        with self.temporary.open("r+b") as file:
            file.write(header)
            file.truncate(self.size)
            file.flush()
            os.fsync(file.fileno())
        backup = _keep_old(self.path) if keep_old else None
        self.temporary.replace(self.path)
        sync_folder(self.path.parent)
        return backup

    def abort(self) -> None:
        """Throws away what was written."""
        self._close()
        self.temporary.unlink(missing_ok=True)

    def _reserve(self, size: int) -> None:
        """Takes the space at once: writes that need not lengthen the file do not wait for each other, and a disk that
        another process fills meanwhile is known now. Where a file system cannot reserve, writing goes on without."""
        try:
            os.posix_fallocate(self._handle, 0, size)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self.abort()
                raise

    def _close(self) -> None:
        """Closes once: the number of a closed handle may soon be that of another file."""
        if self._open:
            self._open = False
            os.close(self._handle)


def aligned_buffer(size: int) -> memoryview:
    """Page-aligned memory of at least `size` bytes, in whole blocks."""
    return memoryview(mmap.mmap(-1, max(BLOCK, -(-size // BLOCK) * BLOCK)))


def refuse_full_disk(path: Path, size: int) -> None:
    """ModelFileError when the disk of `path` has less than `size` bytes, and some to spare, left."""
    place = path.parent
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < size + _SPARE_BYTES:
        raise ModelFileError(f"{path}: needs {size} bytes, the disk has {free} left. Free some or choose another disk.")


def remove_abandoned(path: Path) -> list[Path]:
    """Removes, and names, the temporary files for `path` that killed processes left behind."""
    removed = []
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp") if path.parent.is_dir() else ():
        pid = temporary.name.removesuffix(".tmp").rpartition(".")[2]
        if pid.isdigit() and int(pid) != os.getpid() and not _alive(int(pid)):
            temporary.unlink(missing_ok=True)
            removed.append(temporary)
    return removed


def _open(path: Path, flags: int, direct: bool) -> tuple[int, bool]:
    if direct and hasattr(os, "O_DIRECT"):
        with suppress(OSError):  # tmpfs and some network file systems do not know it
            return os.open(path, flags | os.O_DIRECT, 0o666), True
    return os.open(path, flags, 0o666), False


def _keep_old(path: Path) -> Path | None:
    """A second name for the file that is about to be replaced, so that there is a whole file under the first always."""
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
