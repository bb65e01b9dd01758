"""Enlarges pictures."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

UPSCALE_VERSION: Final = 1
METHODS: Final = ("lanczos", "bicubic", "nearest")


def upscaled_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Width and height of a picture that is enlarged by `factor`, rounded to whole pixels."""
    return round(size[0] * factor), round(size[1] * factor)


def upscaled(image: NDArray[np.uint8], size: tuple[int, int], method: str) -> NDArray[np.uint8]:
    """uint8 sRGB (h, w, 3) at another size (width, height), by Pillow."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling[method.upper()]))
