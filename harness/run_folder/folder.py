"""The run folder as a place on a disk: locked by one process, cleared of what a killed run left, with names any file system
takes."""

from __future__ import annotations

import os
import re
from pathlib import Path

from harness.run_folder.ledger import RunFolderError
from harness.run_folder.lock import FolderLock, TakenError


class RunInUseError(RunFolderError):
    """Another process is writing to the run folder."""


def lock(folder: Path) -> FolderLock:
    """An exclusive lock on the run folder, held until closed.

    Raises RunInUseError when another process has it, RunFolderError when the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return FolderLock(folder)
    except TakenError as error:
        raise RunInUseError(
            f"another run is writing to {folder} ({error}); wait for it, or give --runs-dir another folder") from error
    except OSError as error:
        raise RunFolderError(f"run folder {folder} cannot be used ({error.strerror or error}); "
                             "give --runs-dir a folder that can be written to") from error


def sweep(folder: Path) -> None:
    """Removes the temporary files of a killed run; the lock is held, so nobody is writing them any more."""
    for place, _, names in os.walk(folder):
        for name in names:
            if name.startswith(".") and name.endswith(".tmp"):
                (Path(place) / name).unlink(missing_ok=True)


def slug(text: str) -> str:
    """A name any file system takes: letters, digits and "=._-", at most 60 characters."""
    return re.sub(r"[^A-Za-z0-9=._-]+", "-", text).strip(".-")[:60] or "unnamed"
