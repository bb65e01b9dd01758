"""The settings of a process that savers could leave behind."""

from __future__ import annotations

from typing import Any


def process_settings() -> dict[str, Any]:
    """PyTorch's choice of attention kernels, and diffusers' backend for transformers."""
    import torch
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry
    from torch.nn.attention import _cur_sdpa_kernel_backends

    return {"kernels": _cur_sdpa_kernel_backends(with_priority=True), "dtype": torch.get_default_dtype(),
            "backend": _AttentionBackendRegistry.get_active_backend()[0]}
