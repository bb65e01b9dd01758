"""A models folder on the disk: NAME/records/NNNN.json, NAME/current, objects/<hash>.safetensors and baselines/<suite>.json.
Every file appears by one rename, and a writer holds the folder's lock.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from harness.promotion.errors import PromotionError
from harness.promotion.record_files import PROMOTION, Version, read_record
from harness.records import sync_folder, write_atomically
from harness.records.baseline_file import BaselineError, baseline_text, read_baseline
from harness.records.file_names import unusable_on_windows
from harness.records.regular_files import lies_below
from harness.records.signed_json import signed_text
from harness.run_folder.lock import FolderLock, TakenError

LOCK_SECONDS: Final = 60.0
"""Publishing takes milliseconds; after this long, waiting for another process fails."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RECORD: Final = re.compile(r"([0-9]{4,9})\.json")
_NUMBER: Final = re.compile(r"[0-9]{4,9}\n?")
_RESERVED: Final = ("objects", "baselines")
_ABANDONED_SECONDS: Final = 86_400


class Models:
    """One models folder. `objects` is the folder of weights, by default `objects` within."""

    def __init__(self, root: Path, objects: Path | None = None) -> None:
        self.root, self.objects = root, root / "objects" if objects is None else objects

    def folder(self, name: str) -> Path:
        """The folder of a name. Raises PromotionError for an invalid name, or one that leads out of the models folder."""
        if not _NAME.fullmatch(name) or unusable_on_windows(name) or name.lower() in _RESERVED:
            raise PromotionError(f"{name!r} cannot be the name of a model; expected at most 64 letters, digits and '._-', the "
                                 f"first a letter or digit, the last not a dot; {', '.join(_RESERVED)} and the devices of "
                                 "Windows (con, nul, com1, ...) are reserved")
        for inner in (self.root / name, self.root / name / "records"):
            if not lies_below(inner, self.root):
                raise PromotionError(f"{inner} leads out of {self.root}. Remove that link")
        return self.root / name

    def names(self) -> list[str]:
        """Every promoted name, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(at.name for at in self.root.iterdir() if _NAME.fullmatch(at.name) and at.name.lower() not in _RESERVED
                      and (at / "records").is_dir() and lies_below(at, self.root))

    def numbers(self, name: str) -> list[int]:
        """The numbers of all records of a name, readable or not."""
        records = self.folder(name) / "records"
        matches = [_RECORD.fullmatch(at.name) for at in records.iterdir()] if records.is_dir() else []
        return sorted(int(match[1]) for match in matches if match and match[1] == f"{int(match[1]):04d}")

    def version(self, name: str, number: int) -> Version:
        """One record. Raises PromotionError if it is missing, damaged, or does not follow from the one before it."""
        records = self.folder(name) / "records"
        if number not in (numbers := self.numbers(name)):
            raise PromotionError(f"{name!r} has no version {number} in {self.root}; it has "
                                 f"{', '.join(map(str, numbers)) or 'none'}")
        record = read_record(records / f"{number:04d}.json", name)
        before = [n for n in numbers if n < number]
        digest = read_record(records / f"{before[-1]:04d}.json", name).digest if before else ""
        if record.follows != digest:
            raise PromotionError(f"{records / f'{number:04d}.json'} does not follow from the record before it: one of them was "
                                 "replaced or is missing. Restore both from git")
        return record

    def promotion(self, name: str, number: int) -> Version:
        """A version with weights. Raises PromotionError for a rollback, which has none of its own."""
        record = self.version(name, number)
        if record.kind != PROMOTION:
            raise PromotionError(f"version {number} of {name!r} is a rollback to {record.to}; give that number")
        return record

    def current(self, name: str) -> int:
        """The number of the current promotion; 0 if there is none."""
        file = self.folder(name) / "current"
        if not file.exists():
            return 0
        try:
            text = file.read_text(encoding="ascii") if file.is_file() and file.stat().st_size < 64 else ""
        except (OSError, ValueError):
            text = ""
        if not _NUMBER.fullmatch(text):
            raise PromotionError(f"{file} does not hold a version number. Restore it from git, or run `sweetspot rollback {name} "
                                 "--to N`")
        return int(text)

    def object(self, digest: str) -> Path:
        """The path for the weights with this hash."""
        return self.objects / f"{digest}.safetensors"

    def staged(self) -> Path:
        """A path for weights whose hash is not known yet. Removes files that killed processes left more than a day ago."""
        self.objects.mkdir(parents=True, exist_ok=True)
        for abandoned in (*self.objects.glob(".new-*.safetensors"), *self.objects.glob("..new-*.tmp")):
            with suppress(OSError):
                if time.time() - abandoned.stat().st_mtime > _ABANDONED_SECONDS:
                    abandoned.unlink()
        return self.objects / f".new-{secrets.token_hex(8)}.safetensors"

    def append(self, name: str, data: Mapping[str, Any]) -> Version:
        """Writes the next record, without making it current. The caller holds the lock.

        `data` holds everything but name, number, previous and replaces, which are filled in here.
        """
        folder = self.folder(name)
        numbers = self.numbers(name)
        number = numbers[-1] + 1 if numbers else 1
        previous = None
        if numbers:
            before = read_record(folder / "records" / f"{numbers[-1]:04d}.json", name)
            previous = {"number": before.number, "digest": before.digest}
        record = {**data, "name": name, "number": number, "previous": previous, "replaces": self.current(name)}
        path = folder / "records" / f"{number:04d}.json"
        write_atomically(path, signed_text(record).encode())
        sync_folder(path.parent)
        return read_record(path, name)

    def make_current(self, name: str, number: int) -> None:
        """The last step of a promotion or rollback: makes a version current. The caller holds the lock."""
        folder = self.folder(name)
        write_atomically(folder / "current", f"{number:04d}\n".encode())
        sync_folder(folder)

    def write_baseline(self, version: Version) -> Path:
        """Writes this version's measured values as the baseline of its suite. The caller holds the lock."""
        path = self.baseline(version.suite)
        write_atomically(path, baseline_text(version.data).encode())
        sync_folder(path.parent)
        return path

    def baseline(self, suite: str) -> Path:
        """The baseline file of a suite. Raises PromotionError for a suite whose name cannot be a file name."""
        if not _NAME.fullmatch(suite):
            raise PromotionError(f"suite {suite!r}: its baseline is a file of that name; rename the suite, using only letters, "
                                 "digits and '._-'")
        if not lies_below(self.root / "baselines", self.root):
            raise PromotionError(f"{self.root / 'baselines'} leads out of {self.root}. Remove that link")
        return self.root / "baselines" / f"{suite}.json"

    def baseline_of(self, suite: str) -> str:
        """The model whose values are the suite's baseline; empty if there is no readable one."""
        try:
            return read_baseline(self.baseline(suite)).name
        except BaselineError:
            return ""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder's lock; a second process waits. Raises PromotionError after LOCK_SECONDS."""
        self.root.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                lock = FolderLock(self.root)
                break
            except TakenError as error:
                if time.monotonic() > deadline:
                    raise PromotionError(f"another process is writing to {self.root} ({error}). Try again when it has "
                                         "finished") from error
                time.sleep(0.05)
        try:
            yield
        finally:
            lock.close()
