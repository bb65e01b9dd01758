"""The block formats of GGUF that are written as well as read, Q8_0 to Q4_0: 32 weights with one half-precision scale, of torch's
tensors on any device. Bit for bit as ggml's reference and the package gguf, in float32.
https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch

BLOCK: Final = 32
Parts = Mapping[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class BlockFormat:
    """Codes of `bits`; with `minimum` a weight is d * code + m, else d * (code - 2^(bits-1))."""

    bits: int
    minimum: bool = False

    @property
    def widths(self) -> dict[str, int]:
        """The bytes of each part of a block, in their order."""
        return {"scales": 2, **({"minima": 2} if self.minimum else {}), **({"high": 4} if self.bits == 5 else {}),
                "values": BLOCK if self.bits == 8 else BLOCK // 2}


BLOCK_FORMATS: Final = {"Q8_0": BlockFormat(bits=8), "Q5_1": BlockFormat(bits=5, minimum=True), "Q5_0": BlockFormat(bits=5),
                        "Q4_1": BlockFormat(bits=4, minimum=True), "Q4_0": BlockFormat(bits=4)}


def encoded(name: str, blocks: torch.Tensor) -> dict[str, torch.Tensor]:
    """The parts of float32 blocks (n, 32): half-precision `scales` and `minima` (n, 1), the fifth bits `high` (n, 4), and
    `values`, int8 (n, 32) or two codes to a byte (n, 16), the first half of a block in the low ones."""
    row = BLOCK_FORMATS[name]
    if row.bits == 8:
        scales = blocks.abs().amax(dim=1, keepdim=True) / 127
        scaled = blocks * _inverse(scales)
        whole = scaled.abs().floor()
        # Halves away from zero, as C's roundf; torch.round takes them to the even neighbour.
        rounded = scaled.sign() * (whole + (2 * (scaled.abs() - whole)).floor())
        return {"scales": scales.half(), "values": rounded.to(torch.int8)}
    most = 2 ** row.bits - 1
    if row.minimum:
        least = blocks.amin(dim=1, keepdim=True)
        scales = (blocks.amax(dim=1, keepdim=True) - least) / most
        codes = (blocks - least) * _inverse(scales) + 0.5
    else:
        extreme = blocks.gather(1, blocks.abs().argmax(dim=1, keepdim=True))
        scales = extreme / -(2 ** (row.bits - 1))
        codes = blocks * _inverse(scales) + (2 ** (row.bits - 1) + 0.5)
    codes = codes.to(torch.uint8).clamp(max=most)
    parts = {"scales": scales.half(), **({"minima": least.half()} if row.minimum else {})}
    if row.bits == 5:
        places = torch.arange(8, device=blocks.device)
        parts["high"] = ((codes >> 4).reshape(-1, 4, 8) << places).sum(dim=2).to(torch.uint8)
    halves = (codes & 15).reshape(-1, 2, BLOCK // 2)
    return parts | {"values": halves[:, 0] | halves[:, 1] << 4}


def decoded(name: str, parts: Parts) -> torch.Tensor:
    """The float32 blocks (n, 32) of their parts."""
    row, values, scales = BLOCK_FORMATS[name], parts["values"], parts["scales"].float()
    if row.bits == 8:
        return _scaled(scales, values.float())
    codes = torch.cat([values & 15, values >> 4], dim=1)
    if row.bits == 5:
        places = torch.arange(8, dtype=torch.uint8, device=values.device)
        codes = codes | ((parts["high"].unsqueeze(2) >> places & 1) << 4).reshape(-1, BLOCK)
    if row.minimum:
        return _scaled(scales, codes.float()) + parts["minima"].float()
    return _scaled(scales, codes.float() - 2 ** (row.bits - 1))


def joined(name: str, parts: Parts) -> torch.Tensor:
    """The bytes of blocks as a file has them, uint8 (n, bytes of a block)."""
    return torch.cat([parts[part].contiguous().view(torch.uint8) for part in BLOCK_FORMATS[name].widths], dim=1)


def divided(name: str, data: torch.Tensor) -> dict[str, torch.Tensor]:
    """The inverse of `joined`."""
    row = BLOCK_FORMATS[name]
    dtypes = {"scales": torch.float16, "minima": torch.float16, "values": torch.int8 if row.bits == 8 else torch.uint8}
    pieces = dict(zip(row.widths, torch.split(data, list(row.widths.values()), dim=1), strict=True))
    return {part: piece.contiguous().view(dtypes.get(part, torch.uint8)) for part, piece in pieces.items()}


def _scaled(scales: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    return scales * codes


def _inverse(scales: torch.Tensor) -> torch.Tensor:
    """1 / scale, and 0 where all weights are zero."""
    return torch.where(scales == 0, torch.zeros_like(scales), 1 / scales)
