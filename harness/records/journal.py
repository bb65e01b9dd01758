"""The append-only journal of a run, and the writing of whole files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from harness.records.atomic import naming
from harness.records.images import Cell
from harness.records.json_lines import Record, from_line, quickly, to_line
from harness.records.regular_files import open_regular
from harness.records.sound_values import unsound

LONGEST_LINE: Final = 16 << 20
LARGEST_BYTES: Final = 4 << 30


class Journal:
    """The append-only file of a run's records. Lines are written whole and, by default, reach the disk before `add` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, records: Iterable[Record], *, sync: bool = True) -> None:
        """Appends the records as lines. A torn last line from a killed run is terminated first.

        Without `sync` the lines survive a killed process but not a power cut, until the next `add` or `sync`.
        """
        text = "".join(to_line(r) + "\n" for r in records)
        if not text:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with naming(self.path), self.path.open("ab+") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(text.encode())
            file.flush()
            if sync:
                os.fsync(file.fileno())

    def sync(self) -> None:
        """Waits until all added lines are on the disk."""
        if self.path.exists():
            with naming(self.path), self.path.open("rb") as file:
                os.fsync(file.fileno())

    def read(self) -> tuple[list[Record], list[str]]:
        """All readable records in order, and one sentence for each line that could not be read."""
        damaged: list[str] = []
        return list(self.records(damaged)), damaged

    def records(self, damaged: list[str], start: int = 0, end: int | None = None, lines_before: int = 0) -> Iterator[Record]:
        """The readable records between two byte offsets (to the end of the file by default), in order. One sentence for each
        line that could not be read, or that no run can have written, is appended to `damaged`. `lines_before` is the number of
        lines before `start`."""
        cells: dict[tuple[Any, ...], Cell] = {}
        for number, line in enumerate(self.lines(start, end), start=lines_before + 1):
            if line.isspace():
                continue
            text = line.decode(errors="replace")
            try:
                record = quickly(text, cells) or from_line(text)
            except ValueError as error:
                damaged.append(f"{self.path.name} line {number}: {error}")
                continue
            if problem := unsound(record):
                damaged.append(f"{self.path.name} line {number}: {problem}")
            else:
                yield record

    def lines(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The lines between two byte offsets, with their line ends; none if there is no file. Of a line that is longer than any
        record only the start is given. Raises OSError for what is not a file, or larger than any journal."""
        try:
            file = open_regular(self.path)
        except FileNotFoundError:
            return
        with file:
            if os.fstat(file.fileno()).st_size > LARGEST_BYTES:
                raise OSError(errno.EFBIG, f"larger than {LARGEST_BYTES >> 30} GiB, which no journal is", str(self.path))
            place = file.seek(start)
            while line := file.readline(LONGEST_LINE):
                rest = line
                while len(rest) == LONGEST_LINE and not rest.endswith(b"\n"):
                    place += len(rest)
                    rest = file.readline(LONGEST_LINE)
                place += len(rest)
                if end is not None and place > end:
                    return
                yield line
