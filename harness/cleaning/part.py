"""A part of what lies on the disk: files of one kind in one place, and who needs them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Part:
    """`files` files of `size` bytes in `place`. `needed_by` says who needs them; where it is empty nobody does, and `why` says
    why they are there."""

    place: Path
    what: str
    files: int
    size: int
    needed_by: str = ""
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What was removed, and a sentence for each thing that was to be removed and was not."""

    files: int = 0
    size: int = 0
    problems: tuple[str, ...] = ()

    def __add__(self, other: Removed) -> Removed:
        return Removed(files=self.files + other.files, size=self.size + other.size, problems=(*self.problems, *other.problems))


def files_below(folder: Path) -> Iterator[tuple[Path, int]]:
    """Every file below a folder with its size in bytes. Links are not followed; what vanishes meanwhile is left out."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            try:
                yield path, path.lstat().st_size
            except OSError:
                continue


def whole(place: Path, what: str, needed_by: str, *, without: int = 0, fewer: int = 0) -> Part:
    """A folder as one part, `without` so many bytes in `fewer` files that are parts of their own."""
    sizes = [size for _, size in files_below(place)]
    return Part(place=place, what=what, files=max(len(sizes) - fewer, 0), size=max(sum(sizes) - without, 0), needed_by=needed_by)


def remove(path: Path, size: int) -> Removed:
    """Removes one file."""
    try:
        path.unlink()
    except FileNotFoundError:
        return Removed()
    except OSError as error:
        return Removed(problems=(f"{path} could not be removed ({error.strerror or error})",))
    return Removed(files=1, size=size)
