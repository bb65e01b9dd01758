"""Silences messages of libraries that a user cannot act on."""

from __future__ import annotations

import logging
import os


def quiet_libraries() -> None:
    """Suppresses what torchao, diffusers and transformers log about each other's versions while they are imported. A user cannot
    act on it, and it would break the progress bar."""
    for name in ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
