"""The libraries that every run needs, imported together, and kept out of the garbage collector's way."""

from __future__ import annotations

import gc
import sys
from contextlib import suppress
from importlib import import_module
from typing import Final

from harness.probes.collector import without_collector

SLOWEST: Final = "diffusers"
_EVERY: Final = ("torch", "accelerate", "transformers.models.clip.modeling_clip", "transformers.models.t5.modeling_t5",
                 "diffusers.models.unets.unet_2d_condition", "diffusers.models.autoencoders.autoencoder_kl")
_FOR_CLIP: Final = "open_clip"


def load_libraries(*, clip: bool, own_process: bool) -> None:
    """Imports what a run needs. Does nothing where diffusers is loaded already.

    What is lacking is not reported here: whoever needs it imports it again, and says for what.

    In a process of the run's own, everything that exists by then is exempt from collection. The libraries make half a million
    objects that live as long as the process, and every full collection, of which there are two for each timed candidate, would
    search them for 0.2 s. In another process they might be a user's, who waits for their memory.
    """
    if SLOWEST in sys.modules:
        return
    with without_collector():
        for name in (*_EVERY, *([_FOR_CLIP] if clip else [])):
            with suppress(ImportError):
                import_module(name)
        if own_process:
            gc.freeze()
