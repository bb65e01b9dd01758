"""The lock of a run folder: one writer, on one machine, in containers and over a network file system."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import IO, Final

from harness.records.owner import Owner, myself, read_owner, started

BEAT_SECONDS: Final = 10.0
STALE_SECONDS: Final = 60.0
"""A holder on another machine that has not touched the owner file for this long counts as dead."""
_TAKEN: Final = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


class TakenError(RuntimeError):
    """Another process holds the lock; the message says which, as far as is known."""


class FolderLock:
    """A lock that is held from construction until `close` or the end of the process.

    If both processes run on one kernel, its flock decides: it ends with the process and is shared by all containers. For file
    systems without flock, or with flock per machine, there is an owner file that is touched every ten seconds: an owner on
    another machine counts as alive until it has been silent for a minute.
    """

    def __init__(self, folder: Path) -> None:
        self._lock_file: IO[str] = _lock_file(folder / ".lock")
        self._owner_file = folder / ".owner"
        self.owner = myself()
        try:
            self._take()
        except BaseException:
            self._lock_file.close()
            raise
        self._closed = threading.Event()
        threading.Thread(target=self._beat, daemon=True, name="run folder lock").start()

    def close(self) -> None:
        """Releases the lock."""
        if not self._closed.is_set():
            self._closed.set()
            with suppress(OSError):
                if read_owner(self._owner_file) == self.owner:
                    self._owner_file.unlink(missing_ok=True)
            self._lock_file.close()

    def _take(self) -> None:
        acquired, before = _flock(self._lock_file), read_owner(self._owner_file)
        if acquired is False:
            raise TakenError(str(before or "another process"))
        if before is not None and not self._gone(before, flocked=acquired is True):
            raise TakenError(f"{before}, active less than {STALE_SECONDS:.0f} s ago")
        self._claim()

    def _claim(self) -> None:
        """Writes the owner file and reads it back: if two processes claim at once without flock, the last one gets the lock."""
        temporary = self._owner_file.with_name(f".owner.{self.owner.token}.tmp")
        temporary.write_text(self.owner.text, encoding="utf-8")
        temporary.replace(self._owner_file)
        if read_owner(self._owner_file) != self.owner:
            raise TakenError("a process that started at the same moment")

    def _gone(self, owner: Owner, *, flocked: bool) -> bool:
        """Whether the recorded owner can no longer be writing."""
        if owner.boot and owner.boot == self.owner.boot:
            # The same kernel: holding its flock proves it; without flock, look for the process among those visible here.
            if flocked:
                return True
            if owner.host == self.owner.host:
                return started(owner.pid) != owner.start or not owner.start
        silent = self._silent_for()
        # A clock that went back leaves an owner file of the future, which would count as fresh until that date.
        return self._stays_untouched() if silent < -BEAT_SECONDS else silent > STALE_SECONDS

    def _stays_untouched(self) -> bool:
        """Whether nobody touches the owner file for two and a half of the intervals in which a living owner does."""
        before = self._owner_stamp()
        time.sleep(2.5 * BEAT_SECONDS)
        return self._owner_stamp() == before

    def _owner_stamp(self) -> int:
        try:
            return self._owner_file.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def _silent_for(self) -> float:
        """Seconds since the owner file was touched, by the clock of the file system's server."""
        probe = self._owner_file.with_name(f".owner.{self.owner.token}.probe.tmp")
        probe.touch()
        try:
            return probe.stat().st_mtime - self._owner_file.stat().st_mtime
        except FileNotFoundError:
            return float("inf")
        finally:
            probe.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_SECONDS):
            with suppress(OSError):
                os.utime(self._owner_file)


def _flock(file: IO[str]) -> bool | None:
    """True if the lock was acquired, False if another process holds it, None if the file system has no such locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _TAKEN else None
    return True


def _lock_file(path: Path) -> IO[str]:
    """The file that is locked, opened. Raises OSError for what would not be opened, or elsewhere, such as a pipe or a link."""
    with suppress(FileNotFoundError):
        if not S_ISREG(path.lstat().st_mode):
            raise OSError(errno.EINVAL, f"its {path.name} is not a regular file", str(path))
    return path.open("a")
