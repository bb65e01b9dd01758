"""Pictures for the tests of post-steps."""

import numpy as np
from numpy.typing import NDArray


def noise(seed: int, low: int = 0, high: int = 256, size: int = 16) -> NDArray[np.uint8]:
    """Random levels from `low` to below `high`, (size, size, 3)."""
    return np.random.default_rng(seed).integers(low, high, (size, size, 3), dtype=np.uint8)
