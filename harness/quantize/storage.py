"""How many bytes the weights of modules take, quantized or not."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def stored_bytes(*modules: torch.nn.Module, tensors: Iterable[torch.Tensor] = ()) -> int:
    """Bytes of all parameters and buffers, and of further tensors, shared ones once; a quantized tensor counts as its integers
    and scales."""
    of_modules = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
    return sum(map(_tensor_bytes, {id(tensor): tensor for tensor in (*of_modules, *tensors)}.values()))


def weight_count(*modules: torch.nn.Module) -> int:
    """How many weights modules have, quantized or not, shared ones once."""
    from harness.quantize.layers import QuantizedWeight

    parameters = {id(p): p.numel() for module in modules for p in module.parameters()}
    quantized = {id(layer): math.prod(layer.shape) for module in modules for layer in module.modules()
                 if isinstance(layer, QuantizedWeight)}
    return sum(parameters.values()) + sum(quantized.values())


def _tensor_bytes(tensor: torch.Tensor) -> int:
    # torchao's tensors report the dtype they represent, so their parts are counted instead.
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        return sum(_tensor_bytes(getattr(tensor, name)) for name in names)
    return tensor.numel() * tensor.element_size()
