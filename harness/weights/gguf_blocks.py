"""Dequantises the blocks of GGUF tensors to float32, bit for bit as ggml's reference and the package gguf do: products and sums
in float32, in their order. https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from harness.weights.gguf_types import PACKED
from harness.weights.safetensors_header import ModelFileError, StoredTensor

if TYPE_CHECKING:
    from torch import Tensor

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Floats = np.ndarray[Any, np.dtype[np.float32]]
_AT_ONCE: Final = 1 << 18
"""Weights of a piece: with its intermediate values it stays in the cache of a core."""
_IQ4: Final = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""The values of the sixteen codes of IQ4_NL and IQ4_XS."""


def read_packed(path: Path, tensor: StoredTensor) -> Tensor:
    """The values of a packed tensor in float32 and its shape, read piece by piece. Raises ModelFileError for a file that became
    shorter."""
    import torch

    assert tensor.packed is not None
    row, values = PACKED[tensor.packed.type], np.empty(tensor.packed.bytes // PACKED[tensor.packed.type].bytes
                                                       * PACKED[tensor.packed.type].weights, np.float32)
    blocks_at_once = _AT_ONCE // row.weights
    with path.open("rb") as file:
        file.seek(tensor.packed.offset)
        for begin in range(0, len(values), _AT_ONCE):
            end = min(begin + _AT_ONCE, len(values))
            wanted = min(blocks_at_once, (end - begin) // row.weights) * row.bytes
            data = file.read(wanted)
            if len(data) != wanted:
                raise ModelFileError(f"{path}: ends before byte {tensor.packed.offset + tensor.packed.bytes}, but its header "
                                     "declares more: it was changed while it was read. Start again when nothing writes to it.")
            values[begin:end] = dequantised(tensor.packed.type, np.frombuffer(data, np.uint8)).reshape(-1)
    return torch.from_numpy(values).reshape(tensor.shape)


def dequantised(name: str, data: Bytes) -> Floats:
    """The float32 values (blocks, weights) of bytes that are whole blocks of the format `name`. Scales of NaN and infinity give
    such values."""
    blocks = data.reshape(-1, PACKED[name].bytes)
    if name not in _FORMATS:
        return _of_simple(name, blocks)
    with np.errstate(all="ignore"):
        return _FORMATS[name](blocks).reshape(-1, PACKED[name].weights)


def _of_simple(name: str, blocks: Bytes) -> Floats:
    """Of the formats that are written as well, by their one home."""
    import torch

    from harness.weights.gguf_codes import decoded, divided

    values: Floats = decoded(name, divided(name, torch.tensor(blocks))).numpy()
    return values


def _half(blocks: Bytes, begin: int) -> Floats:
    """The float16 at a byte of each block, (blocks, 1)."""
    return blocks[:, begin:begin + 2].copy().view("<f2").astype(np.float32)


def _fields(data: Bytes, width: int, group: int) -> Bytes:
    """Fields of `width` bits of groups of `group` bytes, lowest bits first: (blocks, weights), all lowest fields of a group
    before its next ones."""
    shifts = np.arange(0, 8, width, dtype=np.uint8)[:, None]
    fields = data.reshape(len(data), -1, 1, group) >> shifts & np.uint8((1 << width) - 1)
    return fields.reshape(len(data), -1)


def _in_groups(values: Any, scales: Floats, least: Floats | None = None) -> Floats:
    """values * scale, less the group's `least`, for scales (blocks, groups)."""
    products: Floats = scales[:, :, None] * values.reshape(*scales.shape, -1).astype(np.float32)
    return products if least is None else products - least[:, :, None]


def _q2_k(blocks: Bytes) -> Floats:
    scales = blocks[:, :16]
    return _in_groups(_fields(blocks[:, 16:80], 2, 32), _half(blocks, 80) * (scales & 15).astype(np.float32),
                      _half(blocks, 82) * (scales >> 4).astype(np.float32))


def _q3_k(blocks: Bytes) -> Floats:
    scales = _fields(blocks[:, 96:104], 4, 8) | _fields(blocks[:, 104:108], 2, 4) << 4
    # A code is four lower where its high bit is not set.
    codes = _fields(blocks[:, 32:96], 2, 32).astype(np.float32) - 4 + 4 * _fields(blocks[:, :32], 1, 32).astype(np.float32)
    return _in_groups(codes, _half(blocks, 108) * (scales.astype(np.float32) - 32))


def _six_bits(data: Bytes) -> tuple[Floats, Floats]:
    """The eight scales and the eight minima of Q4_K and Q5_K, of 6 bits each, in 12 bytes."""
    scales, least, rest = data[:, :4], data[:, 4:8], data[:, 8:]
    return (np.concatenate([scales & 63, rest & 15 | scales >> 2 & 48], axis=1).astype(np.float32),
            np.concatenate([least & 63, rest >> 4 | least >> 2 & 48], axis=1).astype(np.float32))


def _q4_k(blocks: Bytes) -> Floats:
    scales, least = _six_bits(blocks[:, 4:16])
    return _in_groups(_fields(blocks[:, 16:], 4, 32), _half(blocks, 0) * scales, _half(blocks, 2) * least)


def _q5_k(blocks: Bytes) -> Floats:
    scales, least = _six_bits(blocks[:, 4:16])
    codes = _fields(blocks[:, 48:], 4, 32) | _fields(blocks[:, 16:48], 1, 32) << 4
    return _in_groups(codes, _half(blocks, 0) * scales, _half(blocks, 2) * least)


def _q6_k(blocks: Bytes) -> Floats:
    codes = _fields(blocks[:, :128], 4, 64) | _fields(blocks[:, 128:192], 2, 32) << 4
    scales = blocks[:, 192:208].view(np.int8).astype(np.float32)
    return _in_groups(codes.astype(np.float32) - 32, _half(blocks, 208) * scales)


def _iq4_nl(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * np.array(_IQ4, np.float32)[_fields(blocks[:, 2:], 4, 16)]


def _iq4_xs(blocks: Bytes) -> Floats:
    high = blocks[:, 2:4, None] >> np.arange(0, 8, 2, dtype=np.uint8) & 3
    low = blocks[:, 4:8, None] >> np.array([0, 4], np.uint8) & 15
    scales = (low.reshape(-1, 8) | high.reshape(-1, 8) << 4).astype(np.float32) - 32
    return _in_groups(np.array(_IQ4, np.float32)[_fields(blocks[:, 8:], 4, 16)], _half(blocks, 0) * scales)


_FORMATS: Final[dict[str, Callable[[Bytes], Floats]]] = {
    "Q2_K": _q2_k, "Q3_K": _q3_k, "Q4_K": _q4_k,
    "Q5_K": _q5_k, "Q6_K": _q6_k, "IQ4_NL": _iq4_nl, "IQ4_XS": _iq4_xs}
