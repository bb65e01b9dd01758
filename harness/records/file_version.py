"""Versions of files on the disk: what tells that a file was written to or replaced since it was opened."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class ChangedFileError(ValueError):
    """A file that was written to or replaced while it was in use. The message names it and says what to do."""


class FileVersion(NamedTuple):
    """What a write or a replacement changes. Whoever restores size and time of a file still changes its inode or `ctime_ns`."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


def version_of(file: Path | int) -> FileVersion:
    """The version of the file at a path, or of an open one by its descriptor."""
    stat = file.stat() if isinstance(file, Path) else os.fstat(file)
    return FileVersion(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def files_of(path: Path) -> list[Path]:
    """The file itself, or all in a folder that are not hidden: hubs keep their bookkeeping there."""
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file() and not any(
        part.startswith(".") for part in file.relative_to(path).parts)]


def refuse_other_version(file: Path, version: FileVersion) -> None:
    """Raises ChangedFileError unless the file at a path still has this version."""
    try:
        if version_of(file) == version:
            return
        outcome = "was changed"
    except FileNotFoundError:
        outcome = "was removed"
    raise ChangedFileError(f"{file}: {outcome} while it was in use. {_ADVICE}")


class FileVersions:
    """The version of every file behind a reference when it was first seen. What is read, hashed and recorded under a reference
    belongs to that version; after a change the reference is refused for good, because parts of both contents may be in memory."""

    def __init__(self) -> None:
        self._first: dict[str, Mapping[Path, FileVersion]] = {}
        self._refused: dict[str, str] = {}

    def refuse_changed(self, reference: str, path: Path) -> None:
        """Notes the version of the file or folder that `reference` leads to, the first time; later raises ChangedFileError where
        it is another, or leads elsewhere. What does not exist yet is not noted."""
        versions: dict[Path, FileVersion] = {}
        for file in files_of(path):
            with suppress(FileNotFoundError):  # removed since it was listed
                versions[file] = version_of(file)
        first = self._first.get(reference)
        if first is None:
            if versions:
                self._first[reference] = versions
            return
        if reference not in self._refused and versions != first:
            self._refused[reference] = _difference(reference, first, versions)
        if reason := self._refused.get(reference):
            raise ChangedFileError(reason)


_ADVICE = ("Run again once nothing writes to it; if it has to change meanwhile, such as the last checkpoint of a training that "
           "goes on, give the run a copy")


def _difference(reference: str, first: Mapping[Path, FileVersion], now: Mapping[Path, FileVersion]) -> str:
    """Which file is another one now, and what to do."""
    file = min(file for file in first.keys() | now.keys() if first.get(file) != now.get(file))
    place = reference if {*first, *now} == {file} else f"{reference}: {file.name}"
    if file not in now:
        outcome = "was removed, renamed or linked elsewhere"
    elif file not in first:
        outcome = "was added, or is linked elsewhere,"
    elif now[file].size != first[file].size:
        outcome = f"was changed ({first[file].size} bytes at first, {now[file].size} now)"
    else:
        outcome = "was changed"
    return (f"{place}: {outcome} while it was in use, so what was read of it and the hash of the file would be of different "
            f"contents. {_ADVICE}")
