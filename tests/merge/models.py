"""Small models of three tensors, one of them an integer buffer, and what a plan must know of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

WORDS = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64", torch.int64: "I64"}


@dataclass(frozen=True)
class Info:
    dtype: str
    shape: tuple[int, ...]


def model(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"conv.weight": torch.randn(8, 4, 3, 3, generator=generator).to(dtype),
            "conv.bias": torch.randn(8, generator=generator).to(dtype), "ids": torch.arange(5) + seed}


def infos(tensors: Mapping[str, torch.Tensor]) -> dict[str, Info]:
    return {key: Info(WORDS[tensor.dtype], tuple(tensor.shape)) for key, tensor in tensors.items()}
