"""Layers that store integers and dequantize in forward: what torchao leaves out.

The int modes put them into a module. Imports torch; the table of this folder therefore imports it late.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

INT4_GROUP: Final = 32


def quantize_symmetric(rows: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """q = round(w / s), s = max|w| / (2^(bits-1) - 1) over the last dimension, for float32 w of any shape (..., n).

    Returns int8 q (..., n) and float32 s (..., 1). |w - s q| <= s / 2 for every weight; an all-zero row gets s = 1.
    Jacob et al. (2018), https://arxiv.org/abs/1712.05877, its symmetric case.
    """
    top = 2 ** (bits - 1) - 1
    scale = rows.abs().amax(dim=-1, keepdim=True) / top
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (rows / scale).round().clamp(-top, top).to(torch.int8), scale


def pack_int4(values: torch.Tensor) -> torch.Tensor:
    """int8 values in -8..7, any shape, to uint8 (ceil(n / 2)): even positions in the low nibble, odd in the high one."""
    flat = (values.reshape(-1) & 0x0F).to(torch.uint8)
    if flat.numel() % 2:
        flat = torch.cat([flat, flat.new_zeros(1)])
    return flat[0::2] | (flat[1::2] << 4)


def unpack_int4(packed: torch.Tensor, count: int) -> torch.Tensor:
    """The inverse of `pack_int4`: int8 (count)."""
    nibbles = torch.stack([packed & 0x0F, packed >> 4], dim=-1).reshape(-1)[:count].to(torch.int8)
    return nibbles - ((nibbles & 0x08) << 1)


def group_size(row_length: int) -> int:
    """Weights per int4 scale: the largest divisor of the row's length up to 32, or the whole row if that is below 8."""
    best = max(size for size in range(1, INT4_GROUP + 1) if row_length % size == 0)
    return best if best >= 8 else row_length


class QuantizedWeight(nn.Module):
    """A weight (out, ...) as integers and scales: int8 with one scale per output row, int4 packed with one per group."""

    values: torch.Tensor
    scales: torch.Tensor

    def __init__(self, weight: torch.Tensor, bits: int) -> None:
        super().__init__()
        if bits not in (4, 8):
            raise ValueError(f"{bits} bits per weight: expected 4 or 8")
        self.shape, self.bits = tuple(weight.shape), bits
        rows = weight.detach().float().reshape(weight.shape[0], -1)
        if bits == 4:
            rows = rows.reshape(-1, group_size(rows.shape[1]))
        values, scales = quantize_symmetric(rows, bits)
        self.register_buffer("values", pack_int4(values) if bits == 4 else values)
        self.register_buffer("scales", scales)

    def forward(self, dtype: torch.dtype) -> torch.Tensor:
        """s * q, computed in float32 and rounded once to `dtype`, in the weight's own shape."""
        rows = unpack_int4(self.values, _count(self.shape)) if self.bits == 4 else self.values
        rows = rows.reshape(self.scales.shape[0], -1)
        if dtype == torch.float32:
            return (rows.to(dtype) * self.scales).reshape(self.shape)
        return _rounded_product(rows, self.scales, dtype).reshape(self.shape)


class WeightOnlyConv2d(nn.Module):
    """A convolution whose weight is stored as 8 or 4 bit integers: y = conv2d(x, s * q) + b in the dtype of x."""

    def __init__(self, conv: nn.Conv2d, bits: int, computing: torch.dtype = torch.float32) -> None:
        """`computing` is the dtype of x in the module that the layer is part of."""
        super().__init__()
        if conv.padding_mode != "zeros":
            raise ValueError(f"padding mode {conv.padding_mode!r} is not supported, only zeros")
        self.quantized, self.bias = QuantizedWeight(conv.weight, bits), conv.bias
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
    """A linear layer whose weight is stored as 8 or 4 bit integers: y = x (s * q)^T + b in the dtype of x."""

    def __init__(self, linear: nn.Linear, bits: int, computing: torch.dtype = torch.float32) -> None:
        """`computing` is the dtype of x in the module that the layer is part of."""
        super().__init__()
        self.quantized, self.bias = QuantizedWeight(linear.weight, bits), linear.bias
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
        return nn.functional.linear(x, _rounded_product(stored.qdata, stored.scale, x.dtype), self.bias)


class LinearInFloat32(nn.Linear):
    """A linear layer that computes in float32 within a module of another dtype."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out) in the dtype of x."""
        return super().forward(x.float()).to(x.dtype)


def _rounded_product(values: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """values * scales in float32, rounded once to `dtype`. On a GPU the kernel rounds each product as it is written, so that no
    float32 copy takes memory."""
    return torch.mul(values, scales, out=torch.empty_like(values, dtype=dtype))


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count
