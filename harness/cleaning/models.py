"""The objects of a models folder: which of them a record names."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.cleaning.part import Part, Removed, files_below, remove
from harness.promotion import Models, PromotionError
from harness.promotion.record_files import PROMOTION, Version

_OBJECT: Final = re.compile(r"([0-9a-f]{64})\.safetensors|\.new-[0-9a-f]{16}\.safetensors")
_YOUNG_SECONDS: Final = 86_400
"""A promotion writes its object before its record."""


@dataclass(frozen=True, kw_only=True)
class Records:
    """All promotions and rollbacks of a models folder, and a sentence for each record that cannot be read."""

    versions: tuple[Version, ...]
    damaged: tuple[str, ...]

    @property
    def images(self) -> dict[str, str]:
        """By the key of an image, the version whose record lists its values."""
        listed: dict[str, str] = {}
        for version in self.versions:
            columns, rows = (version.data.get("cells", {}).get(part) for part in ("columns", "rows"))
            if version.kind == PROMOTION and isinstance(columns, list) and isinstance(rows, list) and "image" in columns:
                at = columns.index("image")
                listed |= {str(row[at]): f"the record of {version.name} version {version.number}" for row in rows
                           if isinstance(row, list) and len(row) > at}
        return listed


def read_records(models: Models) -> Records:
    """Reads every record of a models folder."""
    versions, damaged = [], []
    for name in models.names():
        for number in models.numbers(name):
            try:
                versions.append(models.version(name, number))
            except PromotionError as error:
                damaged.append(str(error))
    return Records(versions=tuple(versions), damaged=tuple(damaged))


def survey_models(models: Models, records: Records) -> tuple[list[Part], list[str]]:
    """The parts of a models folder, and sentences about what is not known."""
    if not models.root.is_dir():
        return [], []
    sizes: dict[str, list[int]] = {}
    for one in _objects(models, records):
        sizes.setdefault(one.needed_by, []).append(one.size)
    parts = [Part(place=models.objects, what="weights", files=len(group), size=sum(group), needed_by=needed_by,
                  why="" if needed_by else "no record names them") for needed_by, group in sizes.items()]
    objects = {one.path for one in _objects(models, records)}
    notes = [f"{models.root}: no weights are removed, because {line}" for line in records.damaged[:1]]
    return [*parts, *_rest(models, objects)], notes


def _rest(models: Models, objects: set[Path]) -> list[Part]:
    """All files of a models folder but its objects: what promotions wrote, and what others did, such as checkpoints of a user."""
    names = set(models.names())
    ours: list[int] = []
    others: list[int] = []
    for path, size in files_below(models.root):
        first, *below = path.relative_to(models.root).parts
        if path not in objects:
            (ours if _is_written(first, below, names) else others).append(size)
    groups = (("records and baselines", ours, "history, verify, rollback and gates"),
              ("other files", others, "kept: no promotion wrote them"))
    return [Part(place=models.root, what=what, files=len(sizes), size=sum(sizes), needed_by=needed_by)
            for what, sizes, needed_by in groups if sizes]


def _is_written(first: str, below: list[str], names: set[str]) -> bool:
    """Whether promotions write a file at this place of a models folder; its lock lies at the top."""
    if not below:
        return first in (".lock", ".owner")
    return first == "baselines" or (first in names and (below[0] == "records" or below == ["current"]))


def clean_models(models: Models) -> Removed:
    """Removes the weights that no record names, while nobody else writes to the folder. Files younger than a day are kept: a
    promotion writes its object first."""
    if not models.root.is_dir():
        return Removed()
    done = Removed()
    try:
        with models.locked():
            records = read_records(models)
            if records.damaged:
                return Removed(problems=(f"{models.root}: no weights were removed, because {records.damaged[0]}",))
            for one in _objects(models, records):
                if not one.needed_by:
                    done += remove(one.path, one.size)
            return done
    except (OSError, PromotionError) as error:
        return Removed(problems=(f"{models.root}: no weights were removed: {error}",))


@dataclass(frozen=True, kw_only=True)
class _Object:
    """A file of weights, and who needs it."""

    path: Path
    size: int
    needed_by: str


def _objects(models: Models, records: Records) -> Iterator[_Object]:
    """The objects of a models folder, with what interrupted promotions left. A folder of objects elsewhere may serve several
    models folders, so nothing in it is known to be superfluous."""
    needed = {version.weights for version in records.versions}
    if models.objects != models.root / "objects" or models.objects.is_symlink() or not models.objects.is_dir():
        return
    for path in sorted(models.objects.iterdir()):
        match = _OBJECT.fullmatch(path.name)
        if match and path.is_file() and not path.is_symlink():
            status = path.stat()
            reasons = ("the record of a version" if match[1] in needed else "",
                       "kept: a record cannot be read" if records.damaged else "",
                       "kept: less than a day old" if time.time() - status.st_mtime < _YOUNG_SECONDS else "")
            yield _Object(path=path, size=status.st_size, needed_by=next(filter(None, reasons), ""))
