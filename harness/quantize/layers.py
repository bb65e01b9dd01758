"""Layers that store a quantized weight and dequantize it in each forward. Imports torch; import it late.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from harness.quantize.formats import FORMATS, rounded_product


class QuantizedWeight(nn.Module):
    """A weight (out, ...) in a format of FORMATS: integers and scales, as buffers."""

    values: torch.Tensor
    scales: torch.Tensor

    def __init__(self, weight: torch.Tensor, stored_as: str) -> None:
        super().__init__()
        self.shape, self.format = tuple(weight.shape), stored_as
        parts = FORMATS[stored_as].encode(weight.detach().float())
        for name, tensor in parts.items():
            self.register_buffer(name, tensor)

    def forward(self, dtype: torch.dtype) -> torch.Tensor:
        """The weight in its own shape, computed in float32 and rounded once to `dtype`."""
        parts = {name: tensor for name, tensor in self._buffers.items() if tensor is not None}
        return FORMATS[self.format].decode(parts, self.shape, dtype)

    @property
    def finite(self) -> bool:
        """Whether all scales are; True without values."""
        scales = [tensor for tensor in self.buffers() if tensor.is_floating_point() and tensor.element_size() > 1]
        return all(tensor.is_meta or bool(torch.isfinite(tensor).all()) for tensor in scales)


class WeightOnlyConv2d(nn.Module):
    """A convolution whose weight is stored in a format of FORMATS: y = conv2d(x, w) + b in the dtype of x."""

    def __init__(self, conv: nn.Conv2d, stored_as: str, computing: torch.dtype = torch.float32) -> None:
        """`computing` is the dtype of x in the module that the layer is part of."""
        super().__init__()
        if conv.padding_mode != "zeros":
            raise ValueError(f"padding mode {conv.padding_mode!r} is not supported, only zeros")
        self.quantized, self.bias = QuantizedWeight(conv.weight, stored_as), conv.bias
        self.in_channels, self.out_channels, self.kernel_size = conv.in_channels, conv.out_channels, conv.kernel_size
        self.stride, self.padding, self.dilation, self.groups = conv.stride, conv.padding, conv.dilation, conv.groups
        self.computing = computing

    @property
    def weight(self) -> torch.Tensor:
        """The dequantized weight, for code that asks a layer for its weight's shape, dtype or device."""
        weight: torch.Tensor = self.quantized(self.computing)
        return weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (n, in, h, w) to float (n, out, h', w')."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        weight = self.quantized(x.dtype)
        return nn.functional.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class WeightOnlyLinear(nn.Module):
    """A linear layer whose weight is stored in a format of FORMATS: y = x w^T + b in the dtype of x."""

    def __init__(self, linear: nn.Linear, stored_as: str, computing: torch.dtype = torch.float32) -> None:
        """`computing` is the dtype of x in the module that the layer is part of."""
        super().__init__()
        self.quantized, self.bias = QuantizedWeight(linear.weight, stored_as), linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.computing = computing

    @property
    def weight(self) -> torch.Tensor:
        """The dequantized weight, for code that asks a layer for its weight's shape, dtype or device."""
        weight: torch.Tensor = self.quantized(self.computing)
        return weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float (..., in) to float (..., out)."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return nn.functional.linear(x, self.quantized(x.dtype), bias)


class DequantizingLinear(nn.Linear):
    """A linear layer with torchao's int8 weight, dequantized before the product: y = x (s * q)^T + b in the dtype of x."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        stored: Any = self.weight
        return nn.functional.linear(x, rounded_product(stored.qdata, stored.scale, x.dtype), self.bias)


class LinearInBfloat16(nn.Linear):
    """A linear layer that computes in bfloat16 within a module of another dtype."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out) in the dtype of x."""
        bias = None if self.bias is None else self.bias.bfloat16()
        return nn.functional.linear(x.bfloat16(), self.weight, bias).to(x.dtype)


class LinearInFloat32(nn.Linear):
    """A linear layer that computes in float32 within a module of another dtype."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out) in the dtype of x."""
        return super().forward(x.float()).to(x.dtype)
