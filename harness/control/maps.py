"""The control map of a prompt: one of its pictures, or the edges of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.control.edge_map import drawn_edges
from harness.declare.guiding import Canny
from harness.declare.picture_file import read_picture
from harness.declare.to_plain import plain, short_hash

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def map_identity(picture: str | Canny) -> str:
    """A hash that tells the maps of one prompt apart."""
    return short_hash(plain(picture) if isinstance(picture, Canny) else picture)


def source_of(picture: str | Canny) -> str:
    """The name of the prompt's picture that a map is, or is made of."""
    return picture.of if isinstance(picture, Canny) else picture


def edges_drawn(canny: Canny, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The map of edges (h, w, 3) of a picture with the declared thresholds."""
    return drawn_edges(picture, low=canny.low, high=canny.high, sigma=canny.sigma)


def control_map(picture: str | Canny, path: Path) -> NDArray[np.uint8]:
    """The control map (h, w, 3) that a picture file is, or that is made of it. Raises PictureError."""
    pixels = read_picture(path)
    return edges_drawn(picture, pixels) if isinstance(picture, Canny) else pixels
