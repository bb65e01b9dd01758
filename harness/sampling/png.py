"""Images as lossless PNG: a (height, width, 3) uint8 array to bytes, and back."""

from __future__ import annotations

import io

import numpy as np

from harness.sampling.arriving import Images


def to_png(image: Images) -> bytes:
    """Lossless PNG of one (height, width, 3) uint8 image; the same image always gives the same bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def from_png(data: bytes) -> Images:
    """The (height, width, 3) uint8 pixels of a PNG."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))
