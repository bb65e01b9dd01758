"""The image files of a run folder: written, synced together, and checked for alterations."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from stat import S_ISLNK
from typing import Final, TypeAlias

from harness.records import Intermediate, Sample, write_atomically
from harness.records.atomic import naming
from harness.records.regular_files import LARGEST_IMAGE, lies_below, read_regular
from harness.run_folder.journal_index import Stat, stat_of

SYNC_IMAGES: Final = 64
SYNC_SECONDS: Final = 0.5
"""Images are synced to the disk together, after this many or this long. A killed process loses none of them; a power cut loses
the last ones, which the next run finds missing and makes again."""
SYNC_THREADS: Final = 2
"""Files synced at once share one commit of the file system's own journal."""


Kept: TypeAlias = Sample | Intermediate
"""What has an image file."""


class AlteredImageError(RuntimeError):
    """An image that has changed since it was written; the message names it and says what to do."""


class ImageFiles:
    """The image files under one folder. `stats` maps a path to the SHA-256 of the file and the stat it had with this hash.

    With `verify`, this object hashes a file once before it trusts its stat.
    """

    def __init__(self, folder: Path, stats: dict[str, tuple[str, Stat]], *, verify: bool = False) -> None:
        self.folder, self.stats, self.verify = folder, stats, verify
        self.hashed: set[str] = set()
        self._unsynced: list[Kept] = []
        self._first_unsynced = 0.0
        self._inside: dict[str, bool] = {}

    def write(self, sample: Kept, data: bytes) -> None:
        """Writes an image with one rename: other processes see it whole or not at all. The next `sync` puts it on the disk."""
        write_atomically(self.folder / sample.path, data, sync=False)
        if not self._unsynced:
            self._first_unsynced = time.monotonic()
        self._unsynced.append(sample)

    @property
    def due(self) -> bool:
        """Whether enough images wait to be synced, or one has waited long enough."""
        waiting = len(self._unsynced)
        return waiting >= SYNC_IMAGES or (waiting > 0 and time.monotonic() - self._first_unsynced >= SYNC_SECONDS)

    def sync(self) -> bool:
        """Waits until all written images are on the disk, and records their stats. Returns whether there were any.

        Raises OSError if the disk refuses one.
        """
        if not self._unsynced:
            return False
        with ThreadPoolExecutor(SYNC_THREADS) as pool:
            for sample, stat in zip(self._unsynced, pool.map(self._synced, self._unsynced), strict=True):
                if stat is not None:
                    self.stats[sample.path] = (sample.sha256, stat)
        self._unsynced.clear()
        return True

    def intact(self, sample: Kept) -> bool:
        """Whether the file is the one that was written, by its stat or its content; see Ledger."""
        path = f"{self.folder}/{sample.path}"
        try:
            status = os.lstat(path)
            if not self._lies_inside(sample.path, link=S_ISLNK(status.st_mode)):
                return False
            stat = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
            believed = not self.verify or sample.path in self.hashed
            if believed and self.stats.get(sample.path) == (sample.sha256, stat):
                return True
            sound = hashlib.sha256(read_regular(path, LARGEST_IMAGE)).hexdigest() == sample.sha256
        except (OSError, ValueError):
            return False
        if sound:
            self.stats[sample.path] = (sample.sha256, stat)
            self.hashed.add(sample.path)
        return sound

    def read(self, sample: Kept) -> bytes:
        """The bytes of an image, hashed as they are read. Raises AlteredImageError if they are not those that were written."""
        with suppress(OSError):
            data = read_regular(self.folder / sample.path, LARGEST_IMAGE)
            if hashlib.sha256(data).hexdigest() == sample.sha256:
                return data
        self.stats.pop(sample.path, None)
        raise AlteredImageError(f"{self.folder / sample.path} is missing or has changed since it was written; run the same "
                                "command again to make the image again")

    def delete(self, path: str) -> None:
        """Deletes a PNG in this folder's `images`; other paths are not ours and are ignored."""
        image = self.folder / path
        if lies_below(image, self.folder / "images") and image.suffix == ".png":
            image.unlink(missing_ok=True)
        self.stats.pop(path, None)

    def _synced(self, sample: Kept) -> Stat | None:
        """Syncs one image and returns its stat; None if it is gone, which the next check will find."""
        try:
            image = self.folder / sample.path
            with naming(image), image.open("rb") as file:
                os.fsync(file.fileno())
            return stat_of(image)
        except FileNotFoundError:
            return None

    def _lies_inside(self, path: str, *, link: bool) -> bool:
        """Whether a path of the journal resolves to this folder. Links are followed once per folder, and for every file that is
        itself a link."""
        parent, _, name = path.rpartition("/")
        inside = self._inside.get(parent)
        if inside is None:
            inside = self._inside[parent] = lies_below(self.folder / parent, self.folder)
        if not inside or name in ("", ".", ".."):
            return False
        return not link or lies_below(self.folder / path, self.folder)
