"""A copy of promoted weights under a name for people, beside the file that is named by its hash."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.promotion.errors import PromotionError
from harness.promotion.file_hashes import Weighed, weigh
from harness.records import sync_folder
from harness.records.atomic import naming
from harness.weights.stream import refuse_full_disk, remove_abandoned
from harness.weights.write import refuse_suffix


def refuse_copy(path: Path) -> None:
    """Raises PromotionError, or ModelFileError, for a path at which no copy can be written, whatever the weights are."""
    refuse_suffix(path)
    if os.path.lexists(path) and not path.is_file():
        raise PromotionError(f"--copy-to {path}: this is a folder, a broken link or a device. Give the path of a file to write")
    nearest = next(at for at in path.absolute().parents if os.path.lexists(at))
    if not nearest.is_dir():
        raise PromotionError(f"--copy-to {path}: {nearest} is not a folder. Give a path in a folder")


@contextmanager
def named_copy(source: Path, weighed: Weighed, path: Path | None) -> Iterator[None]:
    """Copies `source` to a temporary file next to `path`, which gets its name when the block ends without an error. An equal file
    at `path` is kept. Raises PromotionError, before the block, for a file there with other bytes. Without a path it does nothing.
    """
    if path is None or _has(path, weighed):
        yield
        return
    refuse_full_disk(path, weighed.size)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with naming(path), source.open("rb") as original, temporary.open("wb") as copy:
            shutil.copyfileobj(original, copy, 1 << 22)
            copy.flush()
            os.fsync(copy.fileno())
        yield
        if not _has(path, weighed):  # it may have appeared meanwhile
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _has(path: Path, weighed: Weighed) -> bool:
    """Whether the file at `path` has these weights; False if there is none. Raises PromotionError for other bytes."""
    refuse_copy(path)
    if not path.is_file():
        return False
    if weigh(path).blake3 != weighed.blake3:
        raise PromotionError(f"--copy-to {path}: a file with other bytes is there, and it is kept. Choose another name, or move "
                             "that file away")
    return True
