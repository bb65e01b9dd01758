"""How much freed memory the C library keeps for the next operation, instead of giving it back to the system."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from typing import Any, Final

KEPT_BYTES: Final = 256 << 20
"""Of the end of a heap. The operations of a batch of small pictures free and ask for some 20 MB, thousands of times."""
LARGEST_BLOCK_BYTES: Final = 32 << 20
"""Larger blocks are mapped by themselves. glibc raises its own limit up to this."""
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Lets the heaps keep what is freed, and says whether they do: glibc alone knows how.

    By default a heap shrinks after nearly every large operation and grows at the next, and the system clears each page anew. On
    two cores that was a fifth of the time of the built-in denoiser at 40 latents, with the same bits. Does nothing where the
    environment sets glibc's allocator. `return_freed_memory` gives back what is kept.
    """
    if any(name.startswith("MALLOC_") or (name == "GLIBC_TUNABLES" and "glibc.malloc." in value)
           for name, value in environment.items()):
        return False
    mallopt = _function("mallopt")
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, LARGEST_BLOCK_BYTES)) and bool(
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES))


def return_freed_memory() -> None:
    """Gives all whole pages that are free back to the system, so that the process's size is that of what is in use."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(ctypes.c_size_t(0))


def _function(name: str) -> Any | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
