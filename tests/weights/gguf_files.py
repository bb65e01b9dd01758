"""Writes small GGUF files for tests, entry by entry, from the specification alone: nothing of the reader is used."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

ALIGNMENT = 32
NUMBERS = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 12,
           "Q5_K": 13, "Q6_K": 14, "IQ4_NL": 20, "IQ4_XS": 23, "I8": 24, "I16": 25, "I32": 26, "I64": 27, "F64": 28, "BF16": 30}
BLOCKS = {"Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22), "Q5_1": (32, 24), "Q8_0": (32, 34), "Q2_K": (256, 84),
          "Q3_K": (256, 110), "Q4_K": (256, 144), "Q5_K": (256, 176), "Q6_K": (256, 210), "IQ4_NL": (32, 18),
          "IQ4_XS": (256, 136)}
HALVES = {"Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q2_K": (80, 82), "Q3_K": (108,),
          "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,)}
"""Where the float16 scales of a block are."""
_PLAIN = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32",
          torch.int8: "I8", torch.float64: "F64"}

Tensor = tuple[str, tuple[int, ...], bytes]
"""The format, the shape as torch says it, and the data."""


def text(value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key: str, value: Any) -> bytes:
    """A text, a whole number, or a list of whole numbers or of texts."""
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    if isinstance(value, int):
        return text(key) + struct.pack("<II", 4, value)
    words = bool(value) and isinstance(value[0], str)
    inner = b"".join(map(text, value)) if words else struct.pack(f"<{len(value)}i", *value)
    return text(key) + struct.pack("<IIQ", 9, 8 if words else 5, len(value)) + inner


def listed(name: str | bytes, kind: str | int, shape: Sequence[int], start: int) -> bytes:
    number = NUMBERS[kind] if isinstance(kind, str) else kind
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), number, start)


def head(tensors: int, entries: int, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries)


def padded(data: bytes, alignment: int = ALIGNMENT) -> bytes:
    return data + bytes(-len(data) % alignment)


def gguf(tensors: Mapping[str, Tensor], said: Mapping[str, Any] | None = None) -> bytes:
    """A whole file."""
    said = {"general.architecture": "sd1", **(said or {})}
    begin = head(len(tensors), len(said)) + b"".join(entry(key, value) for key, value in said.items())
    data = b""
    for name, (kind, shape, content) in tensors.items():
        begin += listed(name, kind, shape, len(data))
        data = padded(data + content)
    return padded(begin) + data


def plain(tensor: torch.Tensor) -> Tensor:
    return _PLAIN[tensor.dtype], tuple(tensor.shape), bytes(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())


def blocks(kind: str, count: int, seed: int = 0) -> bytes:
    """`count` random blocks whose values are small numbers."""
    weights, size = BLOCKS[kind]
    generator = np.random.default_rng(seed)
    data = generator.integers(0, 256, (count, size), dtype=np.uint8)
    for place in HALVES[kind]:
        scales = generator.uniform(0.25, 1, count) / (4000 if weights == 256 else 400)
        data[:, place:place + 2] = scales.astype("<f2")[:, None].view(np.uint8)
    return data.tobytes()


def q8_0(values: np.ndarray[Any, Any]) -> bytes:
    """Q8_0 by its definition, block by block: d = max|w| / 127, q = round(w / d)."""
    data = b""
    for block in values.astype(np.float32).reshape(-1, 32):
        d = np.float32(abs(block).max() / np.float32(127))
        codes = [math.floor(abs(w / d) + 0.5) * (1 if w > 0 else -1) if d else 0 for w in block]
        data += struct.pack("<e32b", float(np.float16(d)), *codes)
    return data


def write_city96(path: Path, state: Mapping[str, torch.Tensor], kind: str = "Q8_0", row: int = 256) -> dict[str, str]:
    """A file as city96's tools write it: every weight of whole rows of `row` values (they take 256) in blocks, with its shape
    beside it unless its own rows fit. Returns the format of each tensor."""
    tensors: dict[str, Tensor] = {}
    said: dict[str, Any] = {"general.quantization_version": 2}
    for number, (name, tensor) in enumerate(state.items()):
        count = tensor.numel()
        if tensor.ndim < 2 or count % row:
            tensors[name] = plain(tensor)
            continue
        shape = tuple(tensor.shape)
        if shape[-1] % row:
            said[f"comfy.gguf.orig_shape.{name}"] = list(shape)
            shape = (count // row, row)
        data = q8_0(tensor.float().numpy()) if kind == "Q8_0" else blocks(kind, count // BLOCKS[kind][0], number)
        tensors[name] = kind, shape, data
    path.write_bytes(gguf(tensors, said))
    return {name: row[0] for name, row in tensors.items()}
