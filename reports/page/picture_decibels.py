"""PSNR of pictures of two candidates, read from the run folder: where a metric compares with the baseline alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from reports.page.thumbnails import Files
from reports.read.run import Run

MOST: Final = 200
"""Pictures that are read: more would make writing a page slow."""
_CELL: Final = ["prompt", "seed", "guidance"]


def decibels(run: Run, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """10 log10(255^2 / MSE) in dB, over all values of a picture, for the cells that both candidates of a pair have; infinite for
    equal pictures. Those that cannot be read, or differ in size, are left out. At most MOST, divided among the pairs."""
    files, values = Files(run.folder, run.digests), list[float]()
    for name, reference in pairs:
        mine, theirs = (run.images[run.images["candidate"] == one][[*_CELL, "path"]] for one in (name, reference))
        for row in mine.merge(theirs, on=_CELL, suffixes=("", "_of_reference")).head(MOST // len(pairs)).itertuples():
            try:
                one, other = (np.asarray(files.pixels(str(path)), dtype=np.int32) for path in (row.path, row.path_of_reference))
            except ValueError:  # its candidate's thumbnails say why
                continue
            if one.shape == other.shape:
                error = float(np.mean((one - other) ** 2))
                values.append(10 * math.log10(255**2 / error) if error else math.inf)
    return values
