"""Structured pictures for the metric tests and the benchmark: photographs that scikit-learn brings along, drawn scenes with
gradients, soft edges and texture, stripes and flat colours. Not noise alone, on which every metric is easy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Picture = NDArray[np.uint8]


def photographs(size: int) -> list[Picture]:
    """Two crops each of the two photographs, resampled to size x size."""
    from sklearn.datasets import load_sample_images

    made = []
    for photograph in load_sample_images().images:
        side = min(photograph.shape[:2])
        for left in (0, photograph.shape[1] - side):
            crop = Image.fromarray(photograph).crop((left, 0, left + side, side))
            made.append(np.asarray(crop.resize((size, size), Image.Resampling.LANCZOS)))
    return made


def scene(seed: int, size: int) -> Picture:
    """Six blurred shapes on a gradient, under a slope of light, a coarse texture and a little grain."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[0:size, 0:size] / size
    sky = np.stack([rng.integers(40, 250) * (1 - down * rng.uniform(0.1, 0.6)) for _ in range(3)], axis=-1)
    picture = Image.fromarray(sky.astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(6):
        (x, y), (wide, high) = rng.uniform(0.1, 0.9, 2) * size, rng.uniform(0.05, 0.3, 2) * size
        box, fill = (x - wide, y - high, x + wide, y + high), tuple(int(v) for v in rng.integers(0, 256, 3))
        (pen.ellipse if rng.random() < 0.5 else pen.rectangle)(box, fill=fill)
    shapes = np.asarray(picture.filter(ImageFilter.GaussianBlur(size / 340))).astype(np.float64)
    coarse = Image.fromarray(rng.normal(0, 1, (size // 4, size // 4)).astype(np.float32))
    texture = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    lit = shapes * (1 + 0.12 * texture[..., None]) * (0.75 + 0.5 * across[..., None])
    return np.asarray(np.clip(lit + rng.normal(0, 3, lit.shape), 0, 255), dtype=np.uint8)


def stripes(width: int, size: int) -> Picture:
    """Vertical stripes in red and blue, half of the pixels each."""
    picture = np.empty((size, size, 3), dtype=np.uint8)
    picture[:] = (200, 40, 40)
    picture[:, np.arange(size) // width % 2 == 1] = (40, 60, 200)
    return picture


def altered(picture: Picture, seed: int) -> Picture:
    """The picture as another candidate may paint it: a little darker, bluer and grainier."""
    grain = np.random.default_rng(seed).normal(0, 4, picture.shape)
    return np.clip(picture * (0.94, 0.95, 1.0) + grain, 0, 255).astype(np.uint8)
