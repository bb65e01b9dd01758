"""Hypernetworks: files of A1111's format, and their networks on a live U-Net. They change no weight, so they are not in
ADAPTER_FORMATS; importing this imports no torch.
"""

from harness.adapters.hypernetwork.hooking import Hooked, hook, run_network
from harness.adapters.hypernetwork.reading import (
    ACTIVATIONS,
    MLP,
    Hypernetwork,
    Layer,
    is_hypernetwork,
    read_hypernetwork,
    recognises,
)

__all__ = ["ACTIVATIONS", "MLP", "Hooked", "Hypernetwork", "Layer", "hook", "is_hypernetwork", "read_hypernetwork",
           "recognises", "run_network"]
