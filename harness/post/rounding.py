"""The one rounding at the end of a post-step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mixed(image: NDArray[np.uint8], changed: NDArray[np.float64], strength: float) -> NDArray[np.uint8]:
    """(1 - strength) * image + strength * changed, in levels from 0 to 255, rounded to the nearest level and clipped to them."""
    levels = image + strength * (changed - image)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)
