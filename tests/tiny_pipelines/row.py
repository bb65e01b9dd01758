"""What a tiny random pipeline consists of, and how its folder is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """`parts` by the names of the pipeline's arguments, each made when it is asked for; `options` are its other arguments.
    `call` is what makes a call small: height, width and steps, or the arguments that only this pipeline takes. A class for which
    no such pipeline can be built has the `reason` alone."""

    parts: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=lambda: {"height": 32, "width": 32, "num_inference_steps": 2})
    gain: float = 1.5
    reason: str = ""


def write_tiny(name: str, row: Tiny, folder: Path) -> None:
    """The pipeline of a row with weights of a fixed seed, as a folder of safetensors."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        parts = {part: make() for part, make in row.parts.items()}
        for part, module in parts.items():
            if isinstance(module, torch.nn.Module):
                draw_weights(module, 1.0 if "vae" in part else row.gain)
    getattr(diffusers, class_of(name))(**parts, **row.options).save_pretrained(folder, safe_serialization=True)


def class_of(name: str) -> str:
    """`FluxPipeline:schnell` is a FluxPipeline: a class whose models differ has several rows."""
    return name.partition(":")[0]


def draw_weights(module: torch.nn.Module, gain: float) -> None:
    """Every tensor matters: matrices of `gain` per square root of what they sum over, vectors about one where they start as ones,
    and else about zero. What modules start with is often zero, or so small that a text would hardly change a picture, or memory
    that nothing was written to."""
    module.eval().requires_grad_(False)
    for tensor in module.parameters():
        noise = torch.randn_like(tensor)
        start = float(bool((tensor == 1).all()))
        tensor.copy_(noise * (gain * (tensor.shape[0] / tensor.numel()) ** 0.5) if tensor.ndim > 1 else start + 0.2 * noise)


def generators(count: int, seed: int = 5) -> list[torch.Generator]:
    return [torch.Generator("cpu").manual_seed(seed + n) for n in range(count)]


def denoiser(pipe: Any) -> Any:
    """The part that takes the steps."""
    return next(pipe.components[name] for name in ("transformer", "unet", "prior") if pipe.components.get(name) is not None)
