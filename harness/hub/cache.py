"""The local cache of the Hugging Face hub, read as it lies on the disk: refs/REVISION holds a commit,
snapshots/COMMIT its files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

MAIN: Final = "main"
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}")
_REVISION: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,250}")
_FOLDER: Final = re.compile(r"models--([^/]+?)--([^/]+)")


@dataclass(frozen=True, kw_only=True)
class CachedFile:
    """A file of a repository in a cache, and the commit that it is of."""

    path: Path
    commit: str


def caches() -> list[Path]:
    """The caches of the hub: those that variables name, then the one in the home folder."""
    # huggingface_hub reads the variables when it is imported, which takes half a second.
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    named = [os.environ.get(name) for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")]
    return list(dict.fromkeys([*(Path(path).expanduser() for path in named if path), home.expanduser() / "hub"]))


def cached(repository: str, file: str, revision: str = MAIN) -> CachedFile | None:
    """The file of "owner/name" at a branch, tag or commit, from the first cache that has it; None where none has it, and for
    names that no repository has."""
    parts = PurePosixPath(file).parts
    if not (_is_repository(repository) and _REVISION.fullmatch(revision) and parts) or {"..", "/"} & {*parts}:
        return None
    for cache in caches():
        folder = cache / f"models--{repository.replace('/', '--')}"
        for commit in _commits(folder, revision):
            path = folder / "snapshots" / commit / file
            with suppress(OSError):
                if path.is_file():
                    return CachedFile(path=path, commit=commit)
    return None


def repository_of(path: Path) -> str:
    """The "owner/name" whose snapshot in a cache the file is in; empty for a file that lies elsewhere."""
    parts = path.absolute().parts
    for place, part in enumerate(parts):
        match = _FOLDER.fullmatch(part)
        if match and parts[place + 1:place + 2] == ("snapshots",):
            return f"{match[1]}/{match[2]}"
    return ""


def _is_repository(name: str) -> bool:
    owner, slash, title = name.partition("/")
    return bool(slash) and all(_NAME.fullmatch(part) and "--" not in part for part in (owner, title))


def _commits(folder: Path, revision: str) -> Iterator[str]:
    """The commits that a revision may be, the most certain first."""
    if _COMMIT.fullmatch(revision):
        yield revision
        return
    with suppress(OSError), (folder / "refs" / revision).open("rb") as ref:
        commit = ref.read(64).strip().decode("ascii", errors="replace")
        if _COMMIT.fullmatch(commit):
            yield commit
    if revision == MAIN:  # a file that was fetched by its commit leaves no ref
        with suppress(OSError):
            snapshots = [entry for entry in (folder / "snapshots").iterdir() if _COMMIT.fullmatch(entry.name)]
            yield from (entry.name for entry in sorted(snapshots, key=lambda entry: entry.stat().st_mtime, reverse=True))
