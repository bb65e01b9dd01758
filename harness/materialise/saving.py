"""Writes a recipe's result to a file, completely or not at all, and compares an existing file with its recipe's result."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.materialise.equal_weights import Limits, changes_nothing, equal_to
from harness.materialise.file_layout import FilePlan
from harness.materialise.library import Library, MaterialiseError
from harness.materialise.provenance import input_names, metadata
from harness.materialise.stream_file import Advance, make
from harness.weights import read_header
from harness.weights.hashing import HashingApart
from harness.weights.header import Span, encode_header
from harness.weights.stream import InputFiles, OutputFile, refuse_full_disk, remove_abandoned
from harness.weights.write import refuse_suffix

_NO_HASH: Final = "0" * 64


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A written file: its size, the backup of an older file of that name if there was one, the removed temporary files of killed
    processes, and a sentence for each model that it equals, as a whole or in a component that is merged."""

    path: Path
    size: int
    hashes: Mapping[str, str]
    backup: Path | None
    removed: tuple[Path, ...]
    equal: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A file compared with its recipe's result: names of tensors that only one of them has, that have a different dtype or
    shape, or that have different bytes; and a sentence for each model that the result equals, as in Saved."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    declared: tuple[str, ...]
    differing: tuple[str, ...]
    tensors: int
    equal: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether both have exactly the same tensors, with the same dtype, shape and bytes."""
        return not (self.missing or self.extra or self.declared or self.differing)


def size_on_disk(plan: FilePlan, library: Library, title: str) -> int:
    """Size in bytes of the file that `plan` describes, with its header."""
    return _header_size(plan, library, title) + plan.total


def refuse_target(path: Path, size: int) -> None:
    """Raises ModelFileError if a file of `size` bytes cannot be written to `path`: wrong suffix, a folder, a full disk."""
    refuse_suffix(path)
    if path.is_dir():
        raise MaterialiseError(f"{path} is a folder; give the path of the file to write")
    refuse_full_disk(path, size)


def save(plan: FilePlan, library: Library, path: Path, title: str, advance: Advance = lambda _: None, *,
         unchanged: bool = True) -> Saved:
    """Writes the file of `plan` to `path`. OutputFile documents what happens if the process is killed.

    Raises ModelFileError if the disk is too full or an input changed while it was read, and MaterialiseError for values that
    are not finite, and for a result that is A as it is unless `unchanged` allows it. An existing file is then unchanged.
    """
    names = input_names(plan.recipe.model, library, plan.bases)
    header_size = _header_size(plan, library, title)
    refuse_target(path, header_size + plan.total)
    removed = remove_abandoned(path)
    library.refuse_changed(names)
    # Tensors that are computed as a whole are written at their own offsets, which are not block-aligned.
    output = _opened(path, header_size + plan.total, direct=not plan.wholes)
    hashing = library.hashing or HashingApart(library.path(reference) for reference in names)
    try:
        limits: Limits = {}
        make(plan, header_size, output, advance, limits)
        if not unchanged and (problem := changes_nothing(plan.recipe, limits=limits)):
            raise MaterialiseError(problem)  # noqa: TRY301  nothing is left of the file, as after any error
        equal = tuple(equal_to(plan.recipe, limits=limits))
        hashing.finish()
        hashes = {reference: library.content(reference) for reference in names}
        library.refuse_changed(names)
        header = encode_header(plan.spans, metadata(plan, library, hashes, title), size=header_size)
        backup = output.commit(header)
    except BaseException as error:
        hashing.stop()
        output.abort()
        if isinstance(error, OSError):
            raise MaterialiseError(f"{path} was not written: {error.strerror or error}{_at(error)}. Nothing else was "
                                   "changed") from error
        raise
    return Saved(path=path, size=header_size + plan.total, hashes=hashes, backup=backup, removed=tuple(removed),
                 equal=equal)


def compare(plan: FilePlan, path: Path, advance: Advance = lambda _: None) -> Compared:
    """Compares the file at `path` with the result of `plan`, tensor by tensor and at any offset. Writes nothing."""
    stored, _ = read_header(path)
    names = plan.spans.keys() & stored.keys()
    declared = {name for name in names if (stored[name].dtype, tuple(stored[name].shape)) != (
        plan.spans[name].dtype, plan.spans[name].shape)}
    with InputFiles() as files:
        comparing = _Comparing(path, files, {name: (plan.spans[name], stored[name].offset or 0) for name in names - declared})
        limits: Limits = {}
        make(plan, 0, comparing, advance, limits)
    return Compared(missing=tuple(sorted(plan.spans.keys() - names)), extra=tuple(sorted(stored.keys() - names)),
                    declared=tuple(sorted(declared)), differing=tuple(sorted(comparing.differing)), tensors=len(plan.spans),
                    equal=tuple(equal_to(plan.recipe, limits=limits)))


class _Comparing:
    """An output that compares the bytes with a file instead of writing them."""

    def __init__(self, path: Path, files: InputFiles, places: Mapping[str, tuple[Span, int]]) -> None:
        self.path, self.files = path, files
        self.places = sorted((span.begin, span.end, offset, name) for name, (span, offset) in places.items()
                             if span.begin < span.end)
        self.ends = [end for _, end, _, _ in self.places]
        self.differing: set[str] = set()
        self.lock = threading.Lock()

    def write(self, offset: int, data: memoryview) -> None:
        """Compares the bytes of every tensor in the window at `offset`."""
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
        raise MaterialiseError(f"{path} cannot be written: {error.strerror or error}{_at(error)}. Choose a writable "
                               "folder") from error


def _at(error: OSError) -> str:
    return f" ({error.filename})" if error.filename else ""


def _header_size(plan: FilePlan, library: Library, title: str) -> int:
    names = input_names(plan.recipe.model, library, plan.bases)
    return len(encode_header(plan.spans, metadata(plan, library, dict.fromkeys(names, _NO_HASH), title)))
