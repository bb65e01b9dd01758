"""Hypernetworks in A1111's format, and their use on a live U-Net. They do not change weights, so they are not in
ADAPTER_FORMATS. Importing this does not import torch.
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
