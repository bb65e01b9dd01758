"""The run folder on disk: locked by one process, cleaned of a killed run's temporary files, with file names that any file
system accepts."""

from __future__ import annotations

import os
import re
from pathlib import Path

from harness.records.file_names import unusable_on_windows
from harness.run_folder.ledger import RunFolderError
from harness.run_folder.lock import FolderLock, TakenError


class RunInUseError(RunFolderError):
    """Another process is writing to the run folder."""


def lock(folder: Path) -> FolderLock:
    """An exclusive lock on the run folder, held until closed.

    Raises RunInUseError if another process holds it, RunFolderError if the folder cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return FolderLock(folder)
    except TakenError as error:
        raise RunInUseError(
            f"another run is writing to {folder} ({error}); wait for it, or use another folder with --runs-dir") from error
    except OSError as error:
        raise RunFolderError(f"run folder {folder} cannot be used ({error.strerror or error}); "
                             "use a writable folder with --runs-dir") from error


def sweep(folder: Path) -> None:
    """Removes the temporary files of a killed run. The lock is held, so no process is still writing them."""
    for place, _, names in os.walk(folder):
        for name in names:
            if name.startswith(".") and name.endswith(".tmp"):
                (Path(place) / name).unlink(missing_ok=True)


def slug(text: str) -> str:
    """A name that any file system accepts: letters, digits and "=._-", at most 60 characters."""
    name = re.sub(r"[^A-Za-z0-9=._-]+", "-", text).strip(".-")[:60].rstrip(".") or "unnamed"
    return f"{name.replace('.', '-')}-" if unusable_on_windows(name) else name
