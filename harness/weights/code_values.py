"""Dequantises codes of other tools as these do: products in float32, in their order, rounded once to the dtype of the values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Final

import torch

from harness.weights.codes import BITS, Beside, Codes, codes_bytes
from harness.weights.safetensors_header import ModelFileError, StoredTensor

Tensor = torch.Tensor
_AT_ONCE: Final = 1 << 18
"""Values of a piece: with its intermediate values it stays in the cache of a core."""
NF4_CODES: Final = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0)
"""The sixteen values of NF4, quantiles of a normal distribution: Dettmers et al. (2023), https://arxiv.org/abs/2305.14314."""
_FP4: Final = tuple(sign * n / 12 for sign in (1, -1) for n in (0, 0.0625, 8, 12, 4, 6, 2, 3))
"""The values of bitsandbytes' fp4, which is not E2M1."""
_E2M1: Final = tuple(sign * n for sign in (1, -1) for n in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0))
_INT4: Final = (*range(8), *range(-8, 0))
_TABLES: Final[Mapping[str, tuple[float, ...]]] = {
    "nf4": NF4_CODES, "fp4": _FP4, "nvfp4": _E2M1, "mxfp4": _E2M1, "convrot_w4a4": _INT4}
_BYTES: Final[Mapping[str, torch.dtype]] = {
    "int8": torch.int8, "int8_tensorwise": torch.int8, "mxfp8": torch.float8_e4m3fn, "float8_e4m3fn": torch.float8_e4m3fn,
    "float8_e5m2": torch.float8_e5m2}
_DTYPES: Final = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "U8": torch.uint8,
                  "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.uint8}
_HADAMARD: Final = ((1, 1, 1, -1), (1, 1, -1, 1), (1, -1, 1, 1), (-1, 1, 1, 1))


def read_codes(path: Path, tensor: StoredTensor) -> Tensor:
    """The values of a tensor in codes, in its dtype and shape, read piece by piece. Raises ModelFileError for scales of NaN or
    infinity, and for a file that became shorter."""
    codes = tensor.packed
    assert isinstance(codes, Codes)
    count = math.prod(tensor.shape)
    values = torch.empty(count, dtype=_DTYPES[tensor.dtype])
    decode = _decoder(codes)
    with path.open("rb") as file:
        scales = _scales(tensor.shape, codes)
        block = codes.block or count
        # Whole bytes, and whole groups of rotated values.
        step = _AT_ONCE // (2 * block) * 2 * block or _AT_ONCE
        for begin in range(0, count, step):
            end = min(begin + step, count)
            first, last = (begin * BITS[codes.type] // 8, codes_bytes(codes.type, end))
            data = torch.frombuffer(_read(path, file, codes.offset + first, last - first), dtype=torch.uint8)
            piece = _rotated(decode(data)[:end - begin], codes.rotated)
            piece = piece * _spread(scales, begin, end, block)
            values[begin:end] = piece * codes.factor if codes.factor != 1.0 else piece
    return values.reshape(tensor.shape)


def _decoder(codes: Codes) -> Callable[[Tensor], Tensor]:
    """A function from bytes to the float32 values of their codes."""
    if codes.type in _BYTES:
        dtype = _BYTES[codes.type]
        return lambda data: data.view(dtype).float()
    table = torch.tensor(_TABLES[codes.type], dtype=torch.float32)
    low, high = table.repeat(16), table.repeat_interleave(16)
    pairs = torch.stack([low, high] if codes.low_first else [high, low], dim=1)
    return lambda data: pairs[data.int()].reshape(-1)


def _spread(scales: Tensor, begin: int, end: int, block: int) -> Tensor:
    """The scale of each of some values."""
    if len(scales) == 1:
        return scales
    first, last = begin // block, -(-end // block)
    return scales[first:last].repeat_interleave(block)[begin - first * block:end - first * block]


def _rotated(values: Tensor, size: int) -> Tensor:
    """Groups of `size` whole numbers by the normalised Hadamard matrix that is the Kronecker product of the one of 4; its sums
    are exact. ConvRot, https://arxiv.org/abs/2512.03673."""
    if not size:
        return values
    factors = round(math.log(size, 4))
    matrix, grouped = torch.tensor(_HADAMARD, dtype=torch.float32), values.reshape(-1, *[4] * factors)
    for axis in range(1, factors + 1):
        grouped = torch.tensordot(grouped, matrix, dims=([axis], [1])).movedim(-1, axis)
    whole: Tensor = grouped.reshape(-1) / 2 ** factors
    return whole


def _scales(shape: tuple[int, ...], codes: Codes) -> Tensor:
    """The scales of the blocks in float32, in the order of the weight."""
    table = codes.nested.get("table")
    if table is not None:
        stated = _raw(table).float()
        if not torch.allclose(stated, torch.tensor(_TABLES[codes.type]), atol=1e-4, rtol=0.0):
            raise ModelFileError(f"{table.path}: {table.name!r} holds other numbers than the 16 values of {codes.type}. Download "
                                 "it again.")
    raw = _raw(codes.scales)
    if "values" in codes.nested:
        factors = _raw(codes.nested["scales"])
        raw = _raw(codes.nested["values"])[raw.int()] * _spread(factors, 0, len(raw), codes.nested_block)
        raw = raw + torch.tensor(codes.nested_offset, dtype=torch.float32)
    if codes.scales.stored.dtype in ("U8", "F8_E8M0") and "values" not in codes.nested:
        raw = raw.view(torch.float8_e4m3fn) if codes.type == "nvfp4" else _powers(raw, codes.zero_is_zero)
    scales = _straight(raw.float(), shape, codes.block) if codes.swizzled else raw.float()
    if codes.over is not None:
        whole = _raw(codes.over).float()
        scales = scales / whole if codes.divided else whole * scales
    if not bool(torch.isfinite(scales).all()):
        raise ModelFileError(f"{codes.scales.path}: {codes.scales.name!r} gives NaN or infinite values as scales; expected "
                             "numbers. Download it again.")
    return scales


def _powers(exponents: Tensor, zero_is_zero: bool) -> Tensor:
    """The float32 2^(n - 127) of bytes of F8_E8M0; 255 gives NaN."""
    values = torch.ldexp(torch.ones(len(exponents)), exponents.int() - 127)
    values = torch.where(exponents == 255, torch.nan, values)
    return torch.where(exponents == 0, 0.0, values) if zero_is_zero else values


def _straight(scales: Tensor, shape: tuple[int, ...], block: int) -> Tensor:
    """Scales in tiles of 128 rows and 4 columns, the rows of a tile as 32 x 4, in the order of the weight instead.
    https://docs.nvidia.com/cuda/cublas/index.html#d-block-scaling-factors-layout"""
    rows, columns = math.prod(shape[:-1]), shape[-1] // block
    down, across = -(-rows // 128), -(-columns // 4)
    tiles = scales.reshape(down, across, 32, 4, 4).permute(0, 3, 2, 1, 4)
    return tiles.reshape(down * 128, across * 4)[:rows, :columns].reshape(-1)


def _raw(what: Beside) -> Tensor:
    """A tensor as it is stored, flat."""
    with what.path.open("rb") as file:
        data = _read(what.path, file, what.stored.offset or 0, what.stored.bytes)
    return torch.frombuffer(data, dtype=_DTYPES[what.stored.dtype])


def _read(path: Path, file: BufferedReader, begin: int, size: int) -> bytearray:
    data = bytearray(size)
    file.seek(begin)
    if file.readinto(data) != size:
        raise ModelFileError(f"{path}: ends before byte {begin + size}, but its header declares more: it was changed while it "
                             "was read. Start again when nothing writes to it.")
    return data
