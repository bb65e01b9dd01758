"""The number formats of GGUF tensors: what each is called, how many weights a block has, and in how many bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class GgufType:
    """A format that is read. `dtype` is the same format in safetensors' words; "" for blocks of codes, which are dequantised."""

    name: str
    weights: int = 1
    bytes: int
    dtype: str = ""

    @property
    def bits_per_weight(self) -> float:
        """Scales included."""
        return 8 * self.bytes / self.weights


GGUF_TYPES: Final = {
    0: GgufType(name="F32", bytes=4, dtype="F32"), 1: GgufType(name="F16", bytes=2, dtype="F16"),
    30: GgufType(name="BF16", bytes=2, dtype="BF16"), 28: GgufType(name="F64", bytes=8, dtype="F64"),
    24: GgufType(name="I8", bytes=1, dtype="I8"), 25: GgufType(name="I16", bytes=2, dtype="I16"),
    26: GgufType(name="I32", bytes=4, dtype="I32"), 27: GgufType(name="I64", bytes=8, dtype="I64"),
    2: GgufType(name="Q4_0", weights=32, bytes=18), 3: GgufType(name="Q4_1", weights=32, bytes=20),
    6: GgufType(name="Q5_0", weights=32, bytes=22), 7: GgufType(name="Q5_1", weights=32, bytes=24),
    8: GgufType(name="Q8_0", weights=32, bytes=34),
    10: GgufType(name="Q2_K", weights=256, bytes=84), 11: GgufType(name="Q3_K", weights=256, bytes=110),
    12: GgufType(name="Q4_K", weights=256, bytes=144), 13: GgufType(name="Q5_K", weights=256, bytes=176),
    14: GgufType(name="Q6_K", weights=256, bytes=210),
    20: GgufType(name="IQ4_NL", weights=32, bytes=18), 23: GgufType(name="IQ4_XS", weights=256, bytes=136),
}
"""By ggml's number."""
PACKED: Final = {row.name: row for row in GGUF_TYPES.values() if not row.dtype}
"""The formats of blocks, by name."""
NOT_READ: Final = {
    9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S", 22: "IQ2_S", 29: "IQ1_M",
    34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0"}
"""Formats that are only refused by name: activations, and codes that need large tables."""
