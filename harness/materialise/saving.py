"""A recipe as a file on the disk, whole or not at all; and an existing file compared with what its recipe makes."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.materialise.file_layout import FilePlan
from harness.materialise.library import Library, MaterialiseError
from harness.materialise.provenance import files_of, input_names, metadata
from harness.materialise.stream_file import Advance, make
from harness.weights import read_header
from harness.weights.hashing import HashingApart
from harness.weights.header import Span, encode_header
from harness.weights.stream import InputFiles, OutputFile, refuse_full_disk, remove_abandoned
from harness.weights.write import refuse_suffix

_NO_HASH: Final = "0" * 64


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A file that was made: its size, the old file of its name if there was one, and temporary files that killed
    processes had left and that were removed."""

    path: Path
    size: int
    hashes: Mapping[str, str]
    backup: Path | None
    removed: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A file beside what its recipe makes: names of tensors that are only in one of them, that are declared otherwise,
    or that hold other bytes."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    declared: tuple[str, ...]
    differing: tuple[str, ...]
    tensors: int

    @property
    def identical(self) -> bool:
        """Whether every tensor is there with the same dtype, shape and bytes, and none besides."""
        return not (self.missing or self.extra or self.declared or self.differing)


def size_on_disk(plan: FilePlan, library: Library, title: str) -> int:
    """Bytes of the file that `plan` makes, header included."""
    return _header_size(plan, library, title) + plan.total


def refuse_target(path: Path, size: int) -> None:
    """ModelFileError when a file of `size` bytes could not be written to `path`: another suffix, a folder, a full disk."""
    refuse_suffix(path)
    if path.is_dir():
        raise MaterialiseError(f"{path} is a folder; give the path of the file to write")
    refuse_full_disk(path, size)


def save(plan: FilePlan, library: Library, path: Path, title: str, advance: Advance = lambda _: None) -> Saved:
    """Writes the file of `plan` to `path`; see OutputFile for what is safe meanwhile.

    Raises ModelFileError for a disk too full and for an input that changed while it was read, MaterialiseError for
    values that are not finite; the old file, if there is one, is then as it was.
    """
    names = input_names(plan.recipe.model, library)
    header_size = _header_size(plan, library, title)
    refuse_target(path, header_size + plan.total)
    removed = remove_abandoned(path)
    before = {reference: _version(library.path(reference)) for reference in names}
    # What must be in memory whole is written where it comes to lie, and such writes are not whole blocks.
    output = _opened(path, header_size + plan.total, direct=not plan.wholes)
    hashing = HashingApart(library.path(reference) for reference in names)
    try:
        make(plan, header_size, output, advance)
        hashing.finish()
        hashes = {reference: library.content(reference) for reference in names}
        _refuse_changed(library, before)
        header = encode_header(plan.spans, metadata(plan, library, hashes, title), size=header_size)
        backup = output.commit(header)
    except BaseException as error:
        hashing.stop()
        output.abort()
        if isinstance(error, OSError):
            raise MaterialiseError(f"{path} was not written: {error.strerror or error}{_at(error)}. Nothing else was "
                                   "changed") from error
        raise
    return Saved(path=path, size=header_size + plan.total, hashes=hashes, backup=backup, removed=tuple(removed))


def compare(plan: FilePlan, path: Path, advance: Advance = lambda _: None) -> Compared:
    """The file at `path` beside what `plan` makes, tensor by tensor, wherever they lie in it; nothing is written."""
    stored, _ = read_header(path)
    names = plan.spans.keys() & stored.keys()
    declared = {name for name in names if (stored[name].dtype, tuple(stored[name].shape)) != (
        plan.spans[name].dtype, plan.spans[name].shape)}
    with InputFiles() as files:
        comparing = _Comparing(path, files, {name: (plan.spans[name], stored[name].offset or 0) for name in names - declared})
        make(plan, 0, comparing, advance)
    return Compared(missing=tuple(sorted(plan.spans.keys() - names)), extra=tuple(sorted(stored.keys() - names)),
                    declared=tuple(sorted(declared)), differing=tuple(sorted(comparing.differing)), tensors=len(plan.spans))


class _Comparing:
    """An output that compares instead of writing."""

    def __init__(self, path: Path, files: InputFiles, places: Mapping[str, tuple[Span, int]]) -> None:
        self.path, self.files = path, files
        self.places = sorted((span.begin, span.end, offset, name) for name, (span, offset) in places.items()
                             if span.begin < span.end)
        self.ends = [end for _, end, _, _ in self.places]
        self.differing: set[str] = set()
        self.lock = threading.Lock()

    def write(self, offset: int, data: memoryview) -> None:
        """Compares the bytes of every tensor that lies in the window at `offset`."""
        end = offset + len(data)
        for begin, stop, there, name in self.places[bisect.bisect_right(self.ends, offset):]:
            if begin >= end:
                break
            first, last = max(begin, offset), min(stop, end)
            stored = memoryview(bytearray(last - first))
            self.files.read_into(self.path, there + first - begin, stored)
            if stored != data[first - offset:last - offset]:
                with self.lock:
                    self.differing.add(name)


def _opened(path: Path, size: int, direct: bool) -> OutputFile:
    try:
        return OutputFile(path, size, direct)
    except OSError as error:
        raise MaterialiseError(f"{path} cannot be written: {error.strerror or error}{_at(error)}. Give a folder that can be "
                               "written to") from error


def _at(error: OSError) -> str:
    return f" ({error.filename})" if error.filename else ""


def _header_size(plan: FilePlan, library: Library, title: str) -> int:
    names = input_names(plan.recipe.model, library)
    return len(encode_header(plan.spans, metadata(plan, library, dict.fromkeys(names, _NO_HASH), title)))


def _refuse_changed(library: Library, before: Mapping[str, tuple[int, int]]) -> None:
    if changed := next((at for at, version in before.items() if _version(library.path(at)) != version), None):
        raise MaterialiseError(f"{changed} was changed while it was read. Start again when nothing writes to it")


def _version(path: Path) -> tuple[int, int]:
    """Size and time of change of a file, or of what lies in a folder: other when it was written to."""
    stats = [file.stat() for file in files_of(path)]
    return sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)
