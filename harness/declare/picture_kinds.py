"""The kinds of pictures that union networks take, with their places in the network."""

from __future__ import annotations

from typing import Final

PICTURE_KINDS: Final[dict[str, int]] = {
    "openpose": 0, "depth": 1, "hed": 2, "pidi": 2, "scribble": 2, "ted": 2, "canny": 3, "lineart": 3, "anime_lineart": 3,
    "mlsd": 3, "normal": 4, "segment": 5, "tile": 6, "repaint": 7}
"""As ControlNet Union counts them, and ProMax, which alone has the last two."""
