"""Layers that take what other modules of a pipeline compute in another number format."""

from __future__ import annotations

from typing import Any


def cast_at_layers(module: Any) -> Any:
    """`module`, whose layers with weights take inputs of any floating-point format and compute in their own. Pipelines hand some
    inputs on as they are: time steps as float32 to a denoiser in bfloat16, latents in bfloat16 to a VAE in float32."""
    for layer in module.modules():
        weight = layer._parameters.get("weight")
        if weight is not None and weight.is_floating_point() and not any(
                hook is _in_its_format for hook in layer._forward_pre_hooks.values()):
            layer.register_forward_pre_hook(_in_its_format)
    return module


def _in_its_format(layer: Any, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
    import torch

    weight = layer._parameters.get("weight")
    first: Any = given[0] if given else None
    if type(weight) is not torch.nn.Parameter:  # quantized weights name the format that they were made of
        return None
    if not hasattr(first, "is_floating_point") or first.dtype == weight.dtype:
        return None
    both_float = weight.is_floating_point() and first.is_floating_point()
    return (first.to(weight.dtype), *given[1:]) if both_float else None
