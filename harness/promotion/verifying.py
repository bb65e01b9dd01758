"""Verifies files against the records of promotions, and rolls back to an earlier version after verifying it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from harness.declare.nearest import did_you_mean
from harness.materialise.provenance import INPUTS, RECIPE
from harness.promotion.errors import PromotionError
from harness.promotion.file_hashes import Weighed, weigh
from harness.promotion.models_folder import Models
from harness.promotion.record_files import PROMOTION, RECORD_FORMAT, ROLLBACK, Version
from harness.weights import open_tensors

_HASH_NAME: Final = re.compile(r"[0-9a-f]{64}\.safetensors")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of a verification: the promotions of this file, sentences on it, and whether the file is sound."""

    sound: bool
    versions: tuple[Version, ...]
    lines: tuple[str, ...]


def verify(file: Path, models: Models, expected: Version | None = None) -> Finding:
    """Hashes the file and looks up the record of its content. The content must be that of the version `expected`, where one is
    given, and of the hash that the file is named after, if it is. Raises PromotionError or ModelFileError if that is not
    possible."""
    weighed = weigh(file)
    known, broken = _known(models)
    mine = [v for v in known if v.weights == weighed.blake3]
    if mine:
        wrong = [*_misplaced(file, weighed, mine, expected),
                 *(difference for version in mine for difference in _header(file, version))]
        return Finding(sound=not wrong, versions=tuple(mine), lines=(*wrong, *broken))
    if altered := list(_altered(file, weighed, known)):
        return Finding(sound=False, versions=(), lines=(*altered, *broken))
    where = f"{len(known)} promoted versions in {models.root}"
    refusal = f"{file}: not promoted: its blake3 {weighed.blake3} matches none of the {where}"
    return Finding(sound=False, versions=(), lines=(refusal, *broken))


def current_version(name: str, models: Models) -> Version | None:
    """The current version of a promoted model; None if there is no model of that name."""
    if name not in models.names() or not (number := models.current(name)):
        return None
    return models.promotion(name, number)


def rollback(name: str, to: int, models: Models) -> tuple[Version, Version, bool]:
    """Makes an earlier promotion current, the one before the current one if `to` is 0, and records the rollback.

    Returns the version, the record of the rollback, and whether the suite's baseline is now this version's (it is unchanged if it
    belongs to another model). Raises PromotionError if the version's weights are missing or were changed.
    """
    if not models.numbers(name):
        raise PromotionError(f"{name!r} is not a promoted model in {models.root}; "
                             f"{did_you_mean(name, models.names()) or 'it has no models'}")
    with models.locked():
        current = models.current(name)
        if not to and not (current and (to := models.promotion(name, current).replaces)):
            raise PromotionError(f"{name!r}: nothing was current before version {current}; give --to N")
        version = models.promotion(name, to)
        models.baseline(version.suite)
        if to == current:
            raise PromotionError(f"{name!r}: version {to} is already current")
        file = models.object(version.weights)
        weighed = weigh(file)
        if weighed.blake3 != version.weights:
            raise PromotionError(f"{file} is no longer the file of {name!r} version {to} (blake3 {weighed.blake3}). Restore it "
                                 f"from git or a backup; version {current} stays current")
        if wrong := list(_header(file, version)):
            raise PromotionError(f"{'; '.join(wrong)}; version {current} stays current")
        mine = models.baseline_of(version.suite) in ("", name)
        done = models.append(name, {"format": RECORD_FORMAT, "kind": ROLLBACK, "date": now(), "to": to,
                                    "weights": version.data["weights"]})
        if mine:
            models.write_baseline(version)
        models.make_current(name, to)
    return version, done, mine


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def made_from(file: Path) -> dict[str, Any]:
    """The recipe and the inputs in a file's header, as records hold them; None for one that the header does not have."""
    metadata = open_tensors(file).metadata
    recipe, inputs = (_parsed(metadata.get(key, "")) for key in (RECIPE, INPUTS))
    return {"recipe": {"path": recipe} if isinstance(recipe, str) else recipe, "inputs": inputs}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _known(models: Models) -> tuple[list[Version], tuple[str, ...]]:
    """Every promotion that can be read, and a sentence for each record that cannot."""
    known, broken = [], []
    for name in models.names():
        for number in models.numbers(name):
            try:
                version = models.version(name, number)
            except PromotionError as error:
                broken.append(f"note: {error}")
            else:
                known += [version] if version.kind == PROMOTION else []
    return known, tuple(broken)


def _header(file: Path, version: Version) -> Iterator[str]:
    """The parts of the file's header that differ from its record."""
    header = made_from(file)
    for part, value in header.items():
        if value != version.data[part]:
            yield f"{file}: the {part} in its header is not that of {version.name!r} version {version.number}"


def _misplaced(file: Path, weighed: Weighed, mine: list[Version], expected: Version | None) -> Iterator[str]:
    """Why a file with promoted content is not the promoted file that it was taken for."""
    content = " and ".join(f"{version.name!r} version {version.number}" for version in mine)
    if expected is not None and weighed.blake3 != expected.weights:
        yield (f"{file}: is not {expected.name!r} version {expected.number}, but {content}. Restore the file from git or a "
               "backup, or promote again")
    elif _HASH_NAME.fullmatch(file.name) and file.stem != weighed.blake3:
        yield (f"{file}: is named after another content: it is {content}, blake3 {weighed.blake3}. Restore the file from git or "
               "a backup, or rename it")


def _altered(file: Path, weighed: Weighed, known: list[Version]) -> Iterator[str]:
    """Which promoted file this was before it was changed, as far as the hashes show."""
    for version in known:
        weights, who = version.data["weights"], f"{version.name!r} version {version.number}"
        if weights["data_blake3"] == weighed.data_blake3:
            yield f"{file}: tampered with: it has the weights of {who} under another header"
        elif weights["header_blake3"] == weighed.header_blake3:
            yield f"{file}: tampered with: it has the header of {who}, but other weights"
        elif file.name == f"{version.weights}.safetensors":
            yield f"{file}: tampered with: it is named after the hash of {who}, but has another header and other weights"
