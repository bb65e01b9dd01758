"""The flags of torch that decide the last bits of images, set for a device."""

from __future__ import annotations

from typing import Any, Final

ARITHMETIC: Final = "ieee fp32, deterministic cuDNN, no cuDNN attention"
"""What `set_determinism` chooses on CUDA; part of the keys of images made there."""


def set_determinism(device: str = "cpu") -> None:
    """Makes CUDA choose the same kernels every time, and float32 mean IEEE float32: by default cuDNN rounds the inputs of
    convolutions to TF32, which has the 10 bits of float16. On the CPU, a fixed batch shape is enough."""
    import torch

    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    if not device.startswith("cuda"):
        return
    _refuse_tf32(torch)
    # cuDNN chooses its plan for attention by what it knows of shape and memory; the other kernels are always the same ones.
    torch.backends.cuda.enable_cudnn_sdp(False)


def _refuse_tf32(torch: Any) -> None:
    """By the properties of torch 2.9 and later, where an earlier choice by them would stay, and then by the functions that say
    the same, so that both can be read afterwards."""
    backends = torch.backends
    parts: tuple[Any, ...] = (backends, backends.cudnn, getattr(backends.cudnn, "conv", None),
                              getattr(backends.cudnn, "rnn", None), backends.cuda.matmul)
    for part in parts:
        if hasattr(part, "fp32_precision"):
            part.fp32_precision = "ieee"
    backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
