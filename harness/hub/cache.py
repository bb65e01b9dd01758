"""The local cache of the Hugging Face hub, read as it lies on the disk: refs/REVISION holds a commit, snapshots/COMMIT its files,
mostly as links to blobs/HASH."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.hub.address import COMMIT, MAIN, Address, HubError, problem_of

_FOLDER: Final = re.compile(r"models--([^/]+?)--([^/]+)")
MOST_FILES: Final = 10_000
"""More files no repository of a model has."""


@dataclass(frozen=True, kw_only=True)
class CachedFile:
    """A file or a folder of a repository in a cache, and the commit that it is of."""

    path: Path
    commit: str


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The files of a repository at a commit, in one cache: `folder` is that of the repository there."""

    folder: Path
    commit: str

    @property
    def root(self) -> Path:
        """Where the files are."""
        return self.folder / "snapshots" / self.commit

    def names(self) -> tuple[str, ...]:
        """The names of the files, as in the repository. Raises HubError for more than a repository has."""
        names = []
        for folder, folders, files in os.walk(self.root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            inner = Path(folder).relative_to(self.root)
            names += [(inner / name).as_posix() for name in sorted(files) if not name.startswith(".")]
            if len(names) > MOST_FILES:
                raise HubError(f"{self.root} holds more than {MOST_FILES} files. Name a file, or remove the folder and fetch "
                               "it again")
        return tuple(names)

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        try:
            return (self.root / name).is_file()
        except (OSError, ValueError):
            return False

    def refuse_foreign(self, names: tuple[str, ...]) -> None:
        """Raises HubError for a file that is a link to anything but a file of the same repository's blobs."""
        own, blobs = (Path(os.path.realpath(path)) for path in (self.root, self.folder / "blobs"))
        for name in names:
            target = Path(os.path.realpath(self.root / name))
            if not (target.parent == blobs or target.is_relative_to(own)):
                raise HubError(f"{self.root / name} leads to {target}, which is not a file of that cache. Remove the link, and "
                               "fetch the file again")


def caches() -> list[Path]:
    """The caches of the hub: those that variables name, then the one in the home folder."""
    # huggingface_hub reads the variables when it is imported, which takes half a second.
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    named = [os.environ.get(name) for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")]
    return list(dict.fromkeys([*(Path(path).expanduser() for path in named if path), home.expanduser() / "hub"]))


def cached(repository: str, file: str, revision: str = MAIN) -> CachedFile | None:
    """The file of "owner/name" at a branch, tag or commit, from the first cache that has it; None where none has it, and for
    names that no repository has. Raises HubError for a link that leads out of the cache."""
    if not file or problem_of(Address(repository=repository, file=file, revision=revision)):
        return None
    for snapshot in snapshots(repository, revision):
        if snapshot.has(file):
            snapshot.refuse_foreign((file,))
            return CachedFile(path=snapshot.root / file, commit=snapshot.commit)
    return None


def snapshots(repository: str, revision: str = MAIN) -> Iterator[Snapshot]:
    """The snapshots that a branch, tag or commit of a repository may be, the most certain first."""
    for cache in caches():
        folder = folder_in(cache, repository)
        for commit in _commits(folder, revision):
            snapshot = Snapshot(folder=folder, commit=commit)
            with suppress(OSError):
                if snapshot.root.is_dir() and not snapshot.root.is_symlink():
                    yield snapshot


def folder_in(cache: Path, repository: str) -> Path:
    """Where a cache keeps a repository."""
    return cache / f"models--{repository.replace('/', '--')}"


def repository_of(path: Path) -> str:
    """The "owner/name" whose snapshot in a cache the file is in; empty for a file that lies elsewhere."""
    parts = path.absolute().parts
    for place, part in enumerate(parts):
        match = _FOLDER.fullmatch(part)
        if match and parts[place + 1:place + 2] == ("snapshots",):
            return f"{match[1]}/{match[2]}"
    return ""




def _commits(folder: Path, revision: str) -> Iterator[str]:
    """The commits that a revision may be, the most certain first."""
    if COMMIT.fullmatch(revision):
        yield revision
        return
    with suppress(OSError), (folder / "refs" / revision).open("rb") as ref:
        commit = ref.read(64).strip().decode("ascii", errors="replace")
        if COMMIT.fullmatch(commit):
            yield commit
    if revision == MAIN:  # a file that was fetched by its commit leaves no ref
        with suppress(OSError):
            entries = [entry for entry in (folder / "snapshots").iterdir() if COMMIT.fullmatch(entry.name)]
            yield from (entry.name for entry in sorted(entries, key=lambda entry: entry.stat().st_mtime, reverse=True))
