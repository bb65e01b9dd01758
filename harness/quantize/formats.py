"""How quantized weights are stored: each format encodes a float32 weight as tensors and decodes them. Imports torch;
import it late."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Final

import torch

from harness.quantize.sdnq_codes import SDNQ_TYPES, no_packs, sdnq_decoded, sdnq_encoded
from harness.weights.code_values import NF4_CODES
from harness.weights.gguf_codes import BLOCK, BLOCK_FORMATS, decoded, encoded

INT4_GROUP: Final = 32
NF4_BLOCK: Final = 64
FP8_MAX: Final = 448.0
_LEAST: Final = 1e-38  # bitsandbytes divides by no less
Shape = tuple[int, ...]
Parts = Mapping[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Format:
    """`encode` makes tensors of a float32 weight (out, ...); those of floating point are scales. `decode` gives the weight in its
    shape, computed in float32 and rounded once to a dtype. `refuses` says why a shape cannot be stored so, or an empty string."""

    encode: Callable[[torch.Tensor], dict[str, torch.Tensor]]
    decode: Callable[[Parts, Shape, torch.dtype], torch.Tensor]
    refuses: Callable[[Shape], str] = lambda _: ""


def quantize_symmetric(rows: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """q = round(w / s), s = max|w| / (2^(bits-1) - 1) over the last dimension, for float32 w of any shape (..., n).

    Returns int8 q (..., n) and float32 s (..., 1). |w - s q| <= s / 2 for every weight; an all-zero row gets s = 1.
    Jacob et al. (2018), https://arxiv.org/abs/1712.05877, its symmetric case.
    """
    top = 2 ** (bits - 1) - 1
    scale = _scales(rows, top)
    return (rows / scale).round().clamp(-top, top).to(torch.int8), scale


def pack_int4(values: torch.Tensor) -> torch.Tensor:
    """int8 values in -8..7, any shape, to uint8 (ceil(n / 2)): even positions in the low nibble, odd in the high one."""
    flat = _even(values.reshape(-1) & 0x0F).to(torch.uint8)
    return flat[0::2] | (flat[1::2] << 4)


def unpack_int4(packed: torch.Tensor, count: int) -> torch.Tensor:
    """The inverse of `pack_int4`: int8 (count)."""
    nibbles = torch.stack([packed & 0x0F, packed >> 4], dim=-1).reshape(-1)[:count].to(torch.int8)
    return nibbles - ((nibbles & 0x08) << 1)


def group_size(row_length: int) -> int:
    """Weights per int4 scale: the largest divisor of the row's length up to 32, or the whole row if that is below 8."""
    best = max(size for size in range(1, INT4_GROUP + 1) if row_length % size == 0)
    return best if best >= 8 else row_length


def _scales(rows: torch.Tensor, top: float) -> torch.Tensor:
    scale = rows.abs().amax(dim=-1, keepdim=True) / top
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def _rows(weight: torch.Tensor) -> torch.Tensor:
    return weight.reshape(weight.shape[0], -1)


def _even(flat: torch.Tensor) -> torch.Tensor:
    return torch.cat([flat, flat.new_zeros(1)]) if flat.numel() % 2 else flat


def _int8(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    values, scales = quantize_symmetric(_rows(weight), 8)
    return {"values": values, "scales": scales}


def _int4(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    values, scales = quantize_symmetric(weight.reshape(-1, group_size(weight[0].numel())), 4)
    return {"values": pack_int4(values), "scales": scales}


def _from_int8(parts: Parts, shape: Shape, dtype: torch.dtype) -> torch.Tensor:
    return _scaled(parts["values"], parts["scales"], dtype).reshape(shape)


def _from_int4(parts: Parts, shape: Shape, dtype: torch.dtype) -> torch.Tensor:
    rows = unpack_int4(parts["values"], prod(shape)).reshape(len(parts["scales"]), -1)
    return _scaled(rows, parts["scales"], dtype).reshape(shape)


def _scaled(rows: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return rows.to(dtype) * scales if dtype == torch.float32 else rounded_product(rows, scales, dtype)


def rounded_product(values: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """values * scales in float32, rounded once to `dtype`. On a GPU the kernel rounds each product as it is written, so that no
    float32 copy takes memory."""
    return torch.mul(values, scales, out=torch.empty_like(values, dtype=dtype))


def _fp8(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """e4m3(w / s), s = max|w| / 448 per row; an all-zero row gets s = 1."""
    rows = _rows(weight)
    scales = _scales(rows, FP8_MAX)
    return {"values": (rows / scales).to(torch.float8_e4m3fn), "scales": scales}


def _fp8_scaled(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """As `_fp8`, with one scale for all rows."""
    parts = _fp8(weight.reshape(1, -1))
    return parts | {"values": parts["values"].reshape(_rows(weight).shape)}


def _from_fp8(parts: Parts, shape: Shape, dtype: torch.dtype) -> torch.Tensor:
    return (parts["values"].float() * parts["scales"]).to(dtype).reshape(shape)


def _nf4(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """The nearest code of w / max|w| in blocks of 64 of the flat weight, as bitsandbytes on a CPU; the last block may be shorter.
    The earlier one of two weights is in the high nibble."""
    flat, codes = weight.reshape(-1), torch.tensor(NF4_CODES, device=weight.device)
    whole = flat.numel() - flat.numel() % NF4_BLOCK
    scales, scaled = [], []
    if whole:
        blocks = flat[:whole].reshape(-1, NF4_BLOCK)
        scales.append(blocks.abs().amax(dim=1))
        scaled.append((blocks * (1.0 / scales[0].clamp(min=_LEAST)).unsqueeze(1)).reshape(-1))
    if whole < flat.numel():
        scales.append(flat[whole:].abs().amax().clamp(min=_LEAST).reshape(1))
        scaled.append(flat[whole:] / scales[-1])
    nearest = torch.bucketize(_even(torch.cat(scaled).clamp(-1, 1)), (codes[:-1] + codes[1:]) / 2, out_int32=True).to(torch.uint8)
    return {"values": nearest[0::2] << 4 | nearest[1::2], "scales": torch.cat(scales), "codes": codes}


def _from_nf4(parts: Parts, shape: Shape, dtype: torch.dtype) -> torch.Tensor:
    values, scales = parts["values"], parts["scales"]
    flat = parts["codes"][torch.stack([values >> 4, values & 15], dim=1).reshape(-1).int()]
    missing = len(scales) * NF4_BLOCK - flat.numel()
    blocks = torch.nn.functional.pad(flat, (0, missing)) if missing > 0 else flat
    return (blocks.reshape(-1, NF4_BLOCK) * scales.unsqueeze(1)).to(dtype).reshape(-1)[:prod(shape)].reshape(shape)


def _gguf(name: str) -> Format:
    """Blocks of 32 of the flat weight: those of its rows, where the rows are whole blocks."""
    def decode(parts: Parts, shape: Shape, dtype: torch.dtype) -> torch.Tensor:
        return decoded(name, parts).to(dtype).reshape(shape)

    return Format(encode=lambda weight: encoded(name, weight.reshape(-1, BLOCK)), decode=decode, refuses=_no_blocks)


def _no_blocks(shape: Shape) -> str:
    return f"{prod(shape)} weights are not whole blocks of {BLOCK}" if prod(shape) % BLOCK else ""


def _sdnq(kind: str) -> Format:
    def decode(parts: Parts, shape: Shape, dtype: torch.dtype) -> torch.Tensor:
        return sdnq_decoded(kind, parts, shape).to(dtype)

    return Format(encode=partial(sdnq_encoded, kind), decode=decode, refuses=partial(no_packs, kind))


FORMATS: Final = {"int8": Format(encode=_int8, decode=_from_int8), "int4": Format(encode=_int4, decode=_from_int4),
                  "fp8": Format(encode=_fp8, decode=_from_fp8), "fp8_scaled": Format(encode=_fp8_scaled, decode=_from_fp8),
                  "nf4": Format(encode=_nf4, decode=_from_nf4),
                  **{name: _gguf(name) for name in BLOCK_FORMATS},
                  **{f"sdnq_{kind}": _sdnq(kind) for kind in SDNQ_TYPES}}
