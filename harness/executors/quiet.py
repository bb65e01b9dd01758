"""Silences messages of libraries that a user cannot act on."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def quiet_libraries() -> None:
    """Suppresses what torchao, diffusers, transformers and bitsandbytes log about each other's versions and about optional
    kernels while they are imported. A user cannot act on it, and it would break the progress bar."""
    for name in ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    for logger in ("torch.utils._pytree", "bitsandbytes"):
        logging.getLogger(logger).setLevel(logging.ERROR)


@contextmanager
def own_warnings() -> Iterator[None]:
    """A context in which a warning is shown and never raised. Under `-W error` a library's warning would otherwise be recorded as
    the failure of the candidate that was at work."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        # diffusers' DPM-Solver says it at every batch, and a user of a suite cannot act on it.
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
        yield
