"""Reads colour look-up tables from .cube files: Adobe's Cube LUT specification 1.0, with the words that IRIDAS and DaVinci
Resolve write."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from harness.declare.recipe_files import text_of

LARGEST_FILE: Final = 512 * 1024 * 1024
LARGEST_SIZES: Final = {1: 65_536, 3: 256}
_IGNORED: Final = ("TITLE", "LUT_IN_VIDEO_RANGE", "LUT_OUT_VIDEO_RANGE")


class CubeError(ValueError):
    """A .cube file that cannot be used; the message says which line, and what was expected."""


@dataclass(frozen=True, kw_only=True)
class Cube:
    """A look-up table. `values` are (n, 3) for one table per channel, or (n, n, n, 3) indexed by red, green and blue, in 0..1 for
    black to white, which they may exceed. `low` and `high` are the inputs of the first and last entry, by channel."""

    values: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def read_cube(path: Path) -> Cube:
    """The table in a .cube file. Raises CubeError for a word that is not known, numbers that are missing, too many or not finite,
    and both a 1D and a 3D table."""
    if path.is_file() and path.stat().st_size > LARGEST_FILE:
        raise CubeError(f"{path.name}: it is larger than {LARGEST_FILE >> 20} MiB; expected a .cube file")
    try:
        text = text_of(path)
    except ValueError as error:
        raise CubeError(f"{path.name}: this is {kind}, and a Lut reads .cube files. Give one" if (
            kind := kind_of_picture(path)) else str(error)) from error
    return _Reader(path.name).read(text)


def kind_of_picture(path: Path) -> str:
    """The format of a picture, "a PNG picture"; empty for other files."""
    from PIL import Image

    with suppress(OSError, ValueError, SyntaxError), Image.open(path) as picture:
        return f"a {picture.format} picture"
    return ""


class _Reader:
    def __init__(self, name: str) -> None:
        self._name = name
        self._size, self._dimensions = 0, 0
        self._low, self._high = np.zeros(3), np.ones(3)
        self._rows: list[list[float]] = []

    def read(self, text: str) -> Cube:
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split("#", 1)[0].split() if not line.lstrip().startswith("TITLE") else line.split()
            if words:
                self._line(number, words)
        if not self._dimensions:
            raise CubeError(f"{self._name}: it has no LUT_3D_SIZE and no LUT_1D_SIZE; expected a .cube file")
        expected = self._size ** self._dimensions
        if len(self._rows) != expected:
            raise CubeError(f"{self._name}: it has {len(self._rows)} colours; a table of {self._dimensions} dimensions and size "
                            f"{self._size} has {expected}. Export it again")
        if not (self._low < self._high).all():
            raise CubeError(f"{self._name}: DOMAIN_MIN {self._low.tolist()} is not below DOMAIN_MAX {self._high.tolist()}")
        values = np.array(self._rows)
        if self._dimensions == 3:
            # Red changes fastest in the file.
            values = values.reshape(self._size, self._size, self._size, 3).transpose(2, 1, 0, 3)
        return Cube(values=values, low=self._low, high=self._high)

    def _line(self, number: int, words: list[str]) -> None:
        word = words[0]
        where = f"{self._name}, line {number}"
        if word in ("LUT_1D_SIZE", "LUT_3D_SIZE"):
            if self._dimensions:
                raise CubeError(f"{where}: a second table begins; expected one. Export the 3D table alone")
            self._dimensions = int(word[4])
            self._size = self._integer(where, words)
        elif word in ("DOMAIN_MIN", "DOMAIN_MAX"):
            bound = np.array(self._numbers(where, words[1:], 3))
            self._low, self._high = (bound, self._high) if word == "DOMAIN_MIN" else (self._low, bound)
        elif word in ("LUT_1D_INPUT_RANGE", "LUT_3D_INPUT_RANGE"):
            low, high = self._numbers(where, words[1:], 2)
            self._low, self._high = np.full(3, low), np.full(3, high)
        elif word in _IGNORED:
            if word != "TITLE":
                raise CubeError(f"{where}: {word} asks for video levels; export it for full range")
        elif word[0].isalpha():
            raise CubeError(f"{where}: {word[:40]!r} is not a word of .cube files; expected LUT_3D_SIZE, DOMAIN_MIN or numbers")
        else:
            if not self._dimensions:
                raise CubeError(f"{where}: colours come before LUT_3D_SIZE or LUT_1D_SIZE; expected the size first")
            if len(self._rows) >= self._size ** self._dimensions:
                raise CubeError(f"{where}: more colours than the {self._size ** self._dimensions} of the table")
            self._rows.append(self._numbers(where, words, 3))

    def _integer(self, where: str, words: list[str]) -> int:
        largest = LARGEST_SIZES[self._dimensions]
        if len(words) != 2 or not words[1].isascii() or not words[1].isdigit() or not 2 <= int(words[1]) <= largest:
            raise CubeError(f"{where}: the size is {' '.join(words[1:])[:40]!r}; expected an integer from 2 to {largest}")
        return int(words[1])

    @staticmethod
    def _numbers(where: str, words: list[str], count: int) -> list[float]:
        try:
            numbers = [float(word) for word in words]
        except ValueError:
            numbers = []
        if len(numbers) != count or not np.isfinite(numbers).all():
            raise CubeError(f"{where}: {' '.join(words)[:60]!r}; expected {count} finite numbers")
        return numbers
