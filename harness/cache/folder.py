"""A cache in a folder that runs of one machine share, with a cap on its size: the least recently used go first."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from harness.cache.contract import CacheFacts, Tally, checked_key
from harness.cache.entry import EntryError, largest, seal, unseal
from harness.cache.note import LARGEST_NOTE, seal_note, unseal_note
from harness.records.atomic import write_atomically
from harness.records.regular_files import read_regular

Content = TypeVar("Content")
_IMAGE: Final = ".image"
_NOTE: Final = ".note"
_CROWDED: Final = 0.05
"""The folder's size is counted again when this process has added this share of the cap."""
_LEFT: Final = 0.9
"""Eviction reduces the folder to this share of the cap, so that not every new entry causes one."""
_ABANDONED_SECONDS: Final = 3600
"""A temporary file of this age is abandoned: entries are written in milliseconds."""


class FolderCache:
    """Entries as files, in subfolders named by two hex digits of the key. Each file is renamed into place, so other processes
    see it whole.

    Use is recorded in the file's mtime, because most systems do not maintain atime. Between two counts, each process knows only
    what it added itself, so n processes can exceed the cap by n twentieths for a moment.
    """

    def __init__(self, root: Path, *, size: tuple[int, int], secret: bytes, max_bytes: int) -> None:
        self.root, self.size, self.secret, self.max_bytes = root, size, secret, max_bytes
        self._tally = Tally(where=f"folder:{root}")
        self._added = max_bytes  # looked at with the first entry

    def get(self, key: str, size: tuple[int, int] | None = None) -> bytes | None:
        """The verified PNG, or None. A refused entry is deleted, so that the next run does not meet it again."""
        def verified(path: Path) -> bytes:
            if path.stat().st_size > largest(self.size):
                raise EntryError("larger than any image of this size")
            return unseal(key, read_regular(path, largest(self.size)), self.secret, size or self.size)

        try:
            data = self._read(self._path(key), verified)
        except FileNotFoundError:
            self._tally.misses += 1
            return None
        self._tally.hits += data is not None
        return data

    def put(self, key: str, data: bytes) -> None:
        """Writes the entry, also over another one."""
        entry = seal(key, data, self.secret)
        if len(entry) > largest(self.size):
            self._tally.refuse("larger than any image of this size")
        else:
            self._tally.stored += self._write(self._path(key), entry)

    def has(self, key: str) -> bool:
        """Whether there is a file for the image."""
        try:
            return self._path(key).is_file()
        except OSError as error:
            self._tally.fail(error.strerror or type(error).__name__)
            return False

    def note(self, key: str) -> dict[str, Any] | None:
        """The verified content of a note, or None. A refused entry is deleted."""
        with suppress(FileNotFoundError):
            return self._read(self._path(key, _NOTE),
                              lambda path: unseal_note(key, read_regular(path, LARGEST_NOTE), self.secret))
        return None

    def put_note(self, key: str, content: Mapping[str, Any]) -> None:
        """Writes the note."""
        self._write(self._path(key, _NOTE), seal_note(key, content, self.secret))

    def add_note(self, key: str, content: Mapping[str, Any]) -> bool:
        """Writes the note, unless there is one."""
        return self._write(self._path(key, _NOTE), seal_note(key, content, self.secret), added=True)

    def _read(self, path: Path, verified: Callable[[Path], Content]) -> Content | None:
        """What is verified of a file; None where it is refused or cannot be read. Raises FileNotFoundError for no file."""
        try:
            content = verified(path)
        except FileNotFoundError:
            raise
        except EntryError as error:
            self._tally.refuse(str(error))
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        except OSError as error:
            self._tally.fail(error.strerror or type(error).__name__)
            return None
        with suppress(OSError):
            os.utime(path)
        return content

    def _write(self, path: Path, entry: bytes, *, added: bool = False) -> bool:
        """Writes an entry; with `added`, unless there is one. Returns whether it is there."""
        try:
            # Not synced: a torn entry has no valid hash and costs only one image.
            write_atomically(path, entry, sync=False, added=added)
        except FileExistsError:
            return False
        except OSError as error:
            self._tally.fail(error.strerror or type(error).__name__)
            return False
        self._added += len(entry)
        if self._added > self.max_bytes * _CROWDED:
            self._evict()
        return True

    def facts(self) -> CacheFacts:
        """The counts so far."""
        return self._tally.facts()

    def _path(self, key: str, suffix: str = _IMAGE) -> Path:
        return self.root / checked_key(key)[:2] / (key + suffix)

    def _evict(self) -> None:
        """Deletes the least recently used entries if the folder exceeds its cap. Two processes may do this at once, so a file
        that is already gone is not an error."""
        self._added = 0
        by_age: list[tuple[float, int, str]] = []
        with suppress(OSError):
            for folder in self.root.iterdir():
                with suppress(OSError), os.scandir(folder) as entries:
                    by_age += [(stat.st_mtime, stat.st_size, e.path) for e in entries if (stat := self._ours(e)) is not None]
        total = sum(size for _, size, _ in by_age)
        if total <= self.max_bytes:
            return
        for _, size, path in sorted(by_age):
            if total <= self.max_bytes * _LEFT:
                break
            with suppress(OSError):
                Path(path).unlink(missing_ok=True)
            total -= size

    def _ours(self, entry: os.DirEntry[str]) -> os.stat_result | None:
        """The stat of an entry; None for any other file. Removes the file if it is an abandoned temporary one."""
        with suppress(OSError):
            stat = entry.stat(follow_symlinks=False)
            if entry.name.endswith((_IMAGE, _NOTE)):
                return stat
            abandoned = time.time() - stat.st_mtime > _ABANDONED_SECONDS
            ours = f"{_IMAGE}." in entry.name or f"{_NOTE}." in entry.name
            if abandoned and ours and entry.name.endswith(".tmp"):
                Path(entry.path).unlink(missing_ok=True)
        return None
