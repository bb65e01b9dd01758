"""Reads files of a folder that somebody else may have filled: regular files alone, and none larger than expected. A pipe would
keep a reader waiting for ever, and a sparse file of a few bytes on the disk can have any size."""

from __future__ import annotations

import errno
import os
from io import BufferedReader, FileIO
from pathlib import Path
from stat import S_ISREG
from typing import Final

BUFFER: Final = 1 << 20
LARGEST_RUN_JSON: Final = 32 << 20
LARGEST_IMAGE: Final = 512 << 20


def open_regular(path: str | Path) -> BufferedReader:
    """The file, opened for reading. Raises OSError for one that cannot be opened, and for a folder, a pipe, a socket or a device,
    without waiting for its other end."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return BufferedReader(FileIO(handle), BUFFER)


def lies_below(path: str | Path, folder: Path) -> bool:
    """Whether a path, with all links followed, is below a folder. A link that leads to itself stays where it is; opening
    it fails."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def identity_of(path: str | Path) -> str:
    """What all names of a file or folder have in common, through links of both kinds; its path where nothing is there."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return str(Path(path).absolute())
    return f"{status.st_dev}:{status.st_ino}"


def read_regular(path: str | Path, most_bytes: int) -> bytes:
    """The content of a file. Raises OSError as `open_regular` does, and for a file of more than `most_bytes`."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > most_bytes:
            raise OSError(errno.EFBIG, f"larger than {most_bytes // 1_000_000} MB", str(path))
        return file.read(most_bytes)
