"""The training pictures: lists of scenes that follow from a seed, and their pixels drawn once into the working folder.

The first stage of the training."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.zoo.draw import Scene, default_dress, random_scene, render

Pictures = NDArray[np.uint8]
SETS = ("base", "sketch", "photo-dress", "anime-dress", "test", "held-out")
COUNTS = {"base": 16000, "sketch": 2600, "photo-dress": 500, "anime-dress": 500, "test": 600, "held-out": 300}


@cache
def scenes(name: str) -> tuple[Scene, ...]:
    """The scenes of one set, the same on every machine."""
    rng = np.random.default_rng([20, SETS.index(name)])
    if name in ("photo-dress", "anime-dress"):
        return tuple(default_dress(rng, name.removesuffix("-dress")) for _ in range(COUNTS[name]))
    styles = {"sketch": ("sketch",), "test": ("photo", "anime", "sketch")}.get(name, ("photo", "anime"))
    return tuple(random_scene(rng, styles, held_out=name == "held-out") for _ in range(COUNTS[name]))


def draw_pictures(work: Path, processes: int) -> None:
    """Draws every set that is not there yet into `<work>/pictures/<set>.npy`, uint8 of shape (n, 64, 64, 3)."""
    folder = work / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(processes) as pool:
        for name in SETS:
            path = folder / f"{name}.npy"
            if not path.exists():
                pixels = np.stack(list(pool.map(render, scenes(name), chunksize=100)))
                part = path.with_suffix(".part.npy")
                np.save(part, pixels)
                part.replace(path)


def load_pictures(work: Path, name: str) -> Pictures:
    """The pixels of one set, uint8 of shape (n, 64, 64, 3), in the order of `scenes(name)`."""
    pixels: Pictures = np.load(work / "pictures" / f"{name}.npy")
    return pixels
