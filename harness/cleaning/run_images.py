"""The images of a run folder: which of them its declaration, its race, blind pages or promotions need."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.cleaning.part import Part, Removed, remove, whole
from harness.declare.listing import first_of
from harness.records import Intermediate, Journal, Look, Sample
from harness.records.baseline_file import BASELINE_FILE, read_baseline
from harness.records.regular_files import LARGEST_IMAGE, lies_below, read_regular
from harness.run_folder.folder import lock
from harness.run_folder.ledger import RunFolderError

if TYPE_CHECKING:
    from reports.read.run import Run

DECLARED: Final = "a declared candidate"
RACE: Final = "the adaptive sweep, when it goes on"
BLIND: Final = "a blind page"
BASELINE: Final = "the baseline of its gates"
OTHERWISE: Final = "sampled with other weights, texts or settings than now"
_IMAGES: Final = "images"


@dataclass(frozen=True, kw_only=True)
class _Image:
    """An image file that the journal names, with the hashes that it may have."""

    path: Path
    size: int
    hashes: frozenset[str]
    needed_by: str
    absent: str
    """The name of its candidate, if that is no longer declared."""


def survey_run(folder: Path, promoted: Mapping[str, str]) -> tuple[list[Part], list[str]]:
    """The parts of a run folder, and sentences about what is not known. `promoted` names, by the key of an image, the version
    whose record lists it."""
    try:
        images = _images(folder, promoted)
    except (OSError, ValueError) as error:
        return [whole(folder, "run", "kept: it cannot be read")], [f"{folder}: nothing is removed, because {error}"]
    groups: dict[tuple[str, bool], list[_Image]] = defaultdict(list)
    for image in images:
        groups[image.needed_by, not image.needed_by and bool(image.absent)].append(image)
    parts = [Part(place=folder, what="images", files=len(group), size=sum(image.size for image in group), needed_by=needed_by,
                  why=_why(group)) for (needed_by, _), group in groups.items()]
    rest = whole(folder, "journal, page, records", "the run", without=sum(i.size for i in images), fewer=len(images))
    return [*parts, rest], []


def clean_run(folder: Path, promoted: Mapping[str, str]) -> Removed:
    """Removes the images that nothing needs, while no run writes to the folder. An image whose bytes are not those that the run
    wrote is kept, and so is every file that the journal does not name."""
    try:
        run_lock = lock(folder)
    except RunFolderError as error:
        return Removed(problems=(f"{folder}: nothing was removed: {error}",))
    try:
        images = [image for image in _images(folder, promoted) if not image.needed_by]
        done = sum(map(_remove, images), Removed())
        _remove_empty(folder / _IMAGES)
    except (OSError, ValueError) as error:
        return Removed(problems=(f"{folder}: nothing was removed, because {error}",))
    finally:
        run_lock.close()
    return done


def _why(images: list[_Image]) -> str:
    """Why images that nobody needs are there."""
    names = sorted({image.absent for image in images})
    return OTHERWISE if names == [""] else f"no longer declared: {first_of([repr(name) for name in names])}"


def _images(folder: Path, promoted: Mapping[str, str]) -> list[_Image]:
    """The image files that the journal names. Raises ValueError or OSError where it is not known which of them are needed."""
    from reports.read.blind_files import read_keys
    from reports.read.run import load_run

    run = load_run(folder)
    keys, damaged_keys = read_keys(folder)
    # What a killed run left torn in the journal counts for nobody: the next run makes that image again.
    records, _ = Journal(folder / "journal.jsonl").read()
    if damaged_keys:
        raise ValueError(f"which images are on a blind page is not known: {damaged_keys[0]}. Delete that key if nobody uses it")
    if not lies_below(folder / _IMAGES, folder):
        raise ValueError(f"{folder / _IMAGES} leads out of it")
    looked_at = {name for record in records if isinstance(record, Look) and record.race == run.head.get("race")
                 for name in record.candidates}
    shown = {one.sample for key in keys.values() for one in key.images}
    listed = {**dict.fromkeys(_of_baseline(folder), BASELINE), **dict.fromkeys(shown, BLIND), **promoted}
    by_path: dict[str, list[Sample]] = defaultdict(list)
    by_key: dict[str, Sample] = {}
    for record in records:
        if isinstance(record, Sample):
            by_path[record.path].append(record)
            by_key[record.key] = record
    # A picture that an image was made of is needed as that image is.
    made_of = [record for record in records if isinstance(record, Intermediate)]
    for record in made_of:
        by_path[record.path] += [replace(image, sha256=record.sha256) for image in filter(None, [by_key.get(record.sample)])]
    declared = {*run.digests, *(record.path for record in made_of
                                if record.sample in by_key and by_key[record.sample].path in run.digests)}
    return list(_judged(run, by_path, declared, (listed, looked_at)))


def _of_baseline(folder: Path) -> set[str]:
    """The keys of the images whose values the run's baseline holds."""
    try:
        baseline = read_baseline(folder / BASELINE_FILE)
        at = baseline.columns.index("image")
    except ValueError:  # there is none, or gates say what is wrong with it
        return set()
    return {str(row[at]) for row in baseline.rows}


def _judged(run: Run, by_path: Mapping[str, list[Sample]], paths: Collection[str], why: tuple[Mapping[str, str], set[str]]) -> (
        Iterator[_Image]):
    """`paths` are those that declared candidates need; `why` says what needs the image of a key, and the candidates of a race."""
    by_key, looked_at = why
    declared = {candidate.name for candidate in run.suite.candidates}
    races = run.suite.budget is not None or run.suite.search is not None
    for path, samples in by_path.items():
        if "\0" in path:  # which no file can have
            continue
        file = run.folder / path
        if not lies_below(file, run.folder / _IMAGES) or file.suffix != ".png" or file.is_symlink() or not file.is_file():
            continue
        names = {sample.candidate for sample in samples}
        reasons = [DECLARED if path in paths else "", RACE if races and names & (declared | looked_at) else "",
                   *(by_key.get(sample.key, "") for sample in samples)]
        yield _Image(path=file, size=file.stat().st_size, hashes=frozenset(sample.sha256 for sample in samples),
                     needed_by=next(filter(None, reasons), ""),
                     absent="" if names & declared else max(names))


def _remove(image: _Image) -> Removed:
    try:
        if hashlib.sha256(read_regular(image.path, LARGEST_IMAGE)).hexdigest() in image.hashes:
            return remove(image.path, image.size)
    except OSError as error:
        return Removed(problems=(f"{image.path} could not be read ({error.strerror or error}), and is kept",))
    return Removed(problems=(f"{image.path} has changed since it was written, and is kept",))


def _remove_empty(folder: Path) -> None:
    for place, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):  # not empty
            Path(place).rmdir()
