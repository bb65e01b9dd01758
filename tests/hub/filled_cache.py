"""Files put into a cache of the hub as a download leaves them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

COMMIT = "89abcdef01234567" * 2 + "89abcdef"
OTHER = COMMIT[::-1]


def fill(cache: Path, files: Mapping[str, Path | bytes], repository: str = "o/n", commit: str = COMMIT) -> Path:
    """Adds files, by their names in the repository, at a commit, which main is then. Returns the snapshot's folder."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    for name, content in files.items():
        blob = folder / "blobs" / hashlib.sha256(f"{repository} {commit} {name}".encode()).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        at = folder / "snapshots" / commit / name
        at.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content) if isinstance(content, bytes) else shutil.copyfile(content, blob)
        at.symlink_to(blob)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(commit)
    return folder / "snapshots" / commit
