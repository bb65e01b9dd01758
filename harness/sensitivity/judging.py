"""The pictures of choices of modes beside those without quantization, on prompts that the choices have not seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.declare.mixed import Mode
from harness.metrics.psnr import squared_error
from harness.run.progress import Display
from harness.sensitivity.subject import Subject

if TYPE_CHECKING:
    from harness.records import Cell
    from harness.sampling import Images


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The PSNR in dB by prompt, of the mean squared error of the prompt's pictures. Equal pictures count as if one value differed
    by one level, which is the highest PSNR that is not infinite; `equal` says how many of the `pictures` are."""

    decibels: Mapping[str, float]
    equal: int
    pictures: int


def judged(subject: Subject, modes: Mapping[str, Mode], prompts: Sequence[str],
           progress: Display) -> dict[str, Judged]:
    """Every mode on all seeds of these prompts, made as the suite would make them, by name."""
    cells = subject.cells(prompts, subject.grid.seeds)
    before = subject.pictures(subject.prepared(), cells)
    progress.advance(1, "the pictures without quantization")
    by_name = {}
    for name, mode in modes.items():
        by_name[name] = compared(subject.pictures(subject.prepared(mode), cells), before)
        progress.advance(1, f"the pictures of {name}")
    return by_name


def compared(pictures: Mapping[Cell, Images], before: Mapping[Cell, Images]) -> Judged:
    """Pictures beside others of the same cells."""
    squares: dict[str, list[tuple[int, int]]] = {}
    for cell, picture in pictures.items():
        squares.setdefault(cell.prompt, []).append((squared_error(picture, before[cell]), picture.size))
    return Judged(equal=sum(not error for of in squares.values() for error, _ in of), pictures=len(pictures),
                  decibels={prompt: _decibel(sum(error for error, _ in of), sum(size for _, size in of))
                            for prompt, of in squares.items()})


def _decibel(error: int, size: int) -> float:
    return 10 * math.log10(255 ** 2 * size / max(error, 1))
