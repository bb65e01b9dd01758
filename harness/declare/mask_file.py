"""Reads the mask of an inpainting: where a picture is changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.declare.picture_file import read_picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WHITE_FROM: Final = 128
"""The level from which a pixel of a mask counts as white, as in diffusers."""


def mask_levels(path: Path) -> NDArray[np.uint8]:
    """The gray levels (h, w) of a mask. Raises PictureError."""
    import numpy as np
    from PIL import Image

    return np.asarray(Image.fromarray(read_picture(path)).convert("L"))


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Whether each pixel (h, w) of the picture is changed. Raises PictureError."""
    return mask_levels(path) >= WHITE_FROM


def latent_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Whether each latent of a height and width is changed: as the pixel at its upper left corner, which is what diffusers takes
    of a mask. The mask's sides are multiples of the latents'."""
    return mask[::mask.shape[0] // size[0], ::mask.shape[1] // size[1]]
