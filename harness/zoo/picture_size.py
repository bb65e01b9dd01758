"""The size of the zoo's pictures."""

from typing import Final

SIZE: Final = 64
"""Width and height of every picture, in pixels."""
