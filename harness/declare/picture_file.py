"""Reads a picture that a suite names: its size from the header, or its pixels as 8-bit RGB."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_PIXELS: Final = 64_000_000
"""A picture may declare any size in a few bytes."""
FORMATS: Final = ("PNG", "JPEG", "WEBP")
_MODES: Final = ("RGB", "L", "1", "P")
_ORIENTATION: Final = 0x0112
_TURNED: Final = (5, 6, 7, 8)
"""Orientations of a camera's pictures that exchange width and height."""


class PictureError(ValueError):
    """A picture that cannot be used; the message names the file and says what was expected."""


def size_of_picture(path: Path) -> tuple[int, int]:
    """Width and height of a picture as it is shown, from its header. Raises PictureError for a file that `read_picture` would
    refuse for its format, mode or size."""
    with _opened(path) as image:
        turned = image.getexif().get(_ORIENTATION, 1) in _TURNED
        return (int(image.height), int(image.width)) if turned else (int(image.width), int(image.height))


def read_picture(path: Path) -> NDArray[np.uint8]:
    """The pixels (h, w, 3) of a PNG, JPEG or WebP picture as it is shown, as uint8 RGB; gray becomes RGB. Raises PictureError
    for another format, transparency, more than 8 bits, several frames, and a damaged file."""
    import numpy as np
    from PIL import ImageOps

    with _opened(path) as image:
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from PIL import Image, UnidentifiedImageError

    what = f"picture {path.name!r}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, which are refused here
            opened = Image.open(path, formats=FORMATS)
        with opened as image:
            _refuse(image, what)
            yield image
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(f"{what}: not a PNG, JPEG or WebP picture") from error
    except FileNotFoundError as error:
        raise PictureError(f"{what}: the file does not exist") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError(f"{what}: it cannot be read ({error})") from error


def _refuse(image: Any, what: str) -> None:
    transparent = " with transparency" if "transparency" in image.info else ""
    if image.width * image.height > MOST_PIXELS:
        raise PictureError(f"{what}: {image.width} x {image.height} pixels; expected at most {MOST_PIXELS:,} in all")
    if image.mode not in _MODES or transparent:
        raise PictureError(f"{what}: its pixels are {image.mode}{transparent}; expected RGB or gray of 8 bits without "
                           "transparency. Convert it")
    if getattr(image, "n_frames", 1) != 1:
        raise PictureError(f"{what}: it has {image.n_frames} frames; expected one")
