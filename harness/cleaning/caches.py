"""Caches: the built-in models as they are unpacked, exported graphs, and a folder of images that runs share."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from harness.cleaning.part import Part, Removed, files_below, remove, whole

_CONTENT: Final = re.compile(r"[0-9a-f]{16}")
_UNPACKED: Final = (".safetensors", ".json", ".graph", ".plan")


def zoo_cache() -> Path:
    """The folder into which the built-in models are unpacked."""
    return Path(os.environ.get("SWEETSPOT_CACHE", ".sweetspot"))


def survey_caches(shared: str) -> list[Part]:
    """The parts of the caches; `shared` is the address of a shared cache, or empty."""
    superfluous = [size for folder in _superfluous() for _, size in _unpacked(folder)]
    parts = [Part(place=zoo_cache(), what="built-in models and graphs", files=len(superfluous), size=sum(superfluous),
                  why="unpacked or exported by another version")] if superfluous else []
    if zoo_cache().is_dir():
        parts.append(whole(zoo_cache(), "built-in models and graphs", "zoo: models, exported runtimes; made again when missing",
                           without=sum(superfluous), fewer=len(superfluous)))
    if (folder := folder_of(shared)) is not None and folder.is_dir():
        parts.append(whole(folder, "shared images", "other runs; ?max_bytes= bounds it"))
    return parts


def folder_of(shared: str) -> Path | None:
    """The folder that the address of a shared cache names; None for other addresses."""
    kind, _, path = shared.partition("?")[0].partition(":")
    return Path(path).expanduser() if kind == "folder" else None


def clean_caches() -> Removed:
    """Removes the built-in models that another version of Sweetspot unpacked, and the graphs that other versions exported."""
    done = Removed()
    for folder in _superfluous():
        for path, size in _unpacked(folder):
            done += remove(path, size)
        for place, _, _ in os.walk(folder, topdown=False):
            with suppress(OSError):  # not empty
                Path(place).rmdir()
    return done


def _superfluous() -> list[Path]:
    """The folders of models and of graphs that this version does not read."""
    from harness.runtimes.exporting import versions_of_exporting
    from harness.runtimes.graph_cache import graph_folder
    from harness.zoo.store import content_hash

    graphs = versions_of_exporting()  # where nothing can be exported, it is not known which are read
    return [*_others(zoo_cache() / "zoo", content_hash()), *(_others(graph_folder(), graphs) if graphs else [])]


def _others(root: Path, own: str) -> list[Path]:
    """The folders below `root` that are named by a hash, but `own`."""
    if not root.is_dir() or root.is_symlink():
        return []
    return sorted(folder for folder in root.iterdir() if _CONTENT.fullmatch(folder.name) and folder.name != own
                  and folder.is_dir() and not folder.is_symlink())


def _unpacked(folder: Path) -> Iterator[tuple[Path, int]]:
    return ((path, size) for path, size in files_below(folder) if path.suffix in _UNPACKED and not path.is_symlink())
