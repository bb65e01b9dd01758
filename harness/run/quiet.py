"""Silence for what libraries say to each other."""

from __future__ import annotations

import logging
import os


def quiet_libraries() -> None:
    """Keeps back what torchao, diffusers and transformers say about each other's versions while they are imported: a user can do
    nothing about it, and it would break the progress bar."""
    for name in ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
