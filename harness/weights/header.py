"""The header of a safetensors file to be written: the span of each tensor, independent of the order in which tensors are
given, and the header's bytes."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from harness.weights.safetensors_header import DTYPE_BYTES

_ALIGNMENT: Final = 4096
"""The data starts on a page boundary, so that it can be written with direct I/O and mapped without an offset."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """The range of a tensor's bytes, counted from the start of the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def lay_out(tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> dict[str, Span]:
    """{name: span} of tensors (name, dtype, shape) without gaps: wide dtypes first, so that all are aligned, then by name.
    The safetensors library writes this order too, so most inputs are read sequentially."""
    position, spans = 0, {}
    for name, dtype, shape in sorted(tensors, key=lambda entry: (-DTYPE_BYTES[entry[1]], entry[0])):
        end = position + math.prod(shape) * DTYPE_BYTES[dtype]
        spans[name] = Span(dtype=dtype, shape=tuple(shape), begin=position, end=end)
        position = end
    return spans


def encode_header(spans: Mapping[str, Span], metadata: Mapping[str, str], size: int = 0) -> bytes:
    """The bytes before the data: length, JSON, and spaces up to `size` bytes, or up to the next page if `size` is 0.

    Metadata is sorted by name. Raises TypeError for a value that is not text, ValueError if the JSON does not fit into
    `size`.
    """
    if wrong := next((name for name, value in metadata.items() if not isinstance(value, str)), None):
        raise TypeError(f"metadata {wrong!r} is {metadata[wrong]!r}; the format allows text only")
    listed = {name: {"dtype": span.dtype, "shape": list(span.shape), "data_offsets": [span.begin, span.end]}
              for name, span in spans.items()}
    text = json.dumps({"__metadata__": dict(sorted(metadata.items())), **listed}, separators=(",", ":")).encode()
    total = size or -(-(8 + len(text)) // _ALIGNMENT) * _ALIGNMENT
    if 8 + len(text) > total:
        raise ValueError(f"the header needs {8 + len(text)} bytes, but {total} were reserved")
    return struct.pack("<Q", total - 8) + text.ljust(total - 8)


def data_bytes(spans: Mapping[str, Span]) -> int:
    """The number of bytes of all tensors together."""
    return max((span.end for span in spans.values()), default=0)
