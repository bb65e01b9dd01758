"""The run folder as a place on a disk: locked by one process, cleared of what a killed run left, with names any file
system takes. run.py opens it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import IO

from harness.ledger import RunFolderError


class RunInUseError(RunFolderError):
    """Another process is writing to the run folder."""


def lock(folder: Path) -> IO[str]:
    """An exclusive lock on the run folder, held until closed.

    Raises RunInUseError when another process has it, RunFolderError when the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise RunFolderError(f"run folder {folder} cannot be used ({error.strerror or error}); "
                             "give --runs-dir a folder that can be written to") from error
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise RunInUseError(
                f"another run is writing to {folder}; wait for it, or give --runs-dir another folder") from error
    return file


def sweep(folder: Path) -> None:
    """Removes the temporary files of a killed run; the lock is held, so nobody is writing them any more."""
    for left in folder.rglob(".*.tmp"):
        left.unlink(missing_ok=True)


def slug(text: str) -> str:
    """A name any file system takes: letters, digits and "=._-", at most 60 characters."""
    return re.sub(r"[^A-Za-z0-9=._-]+", "-", text).strip(".-")[:60] or "unnamed"
