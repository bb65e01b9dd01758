"""Fields of declarations that are younger than run folders."""

from __future__ import annotations

from typing import Final

LEFT_OUT: Final = "left out"
"""In a field's metadata: `plain` leaves it out where it has its default. For fields that are younger than run folders: without
them, what was declared before has the hash that it had."""
