"""JSON files that carry a digest of themselves: how they are signed, written for git, and read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from blake3 import blake3

from harness.records.regular_files import read_regular

LARGEST_BYTES: Final = 64_000_000


def digest_of(data: Mapping[str, Any]) -> str:
    """BLAKE3 of the content without its own digest, whatever its spaces and order of keys. Raises ValueError for NaN, infinity
    or content that is not JSON, RecursionError for content nested too deeply."""
    content = {key: value for key, value in data.items() if key != "digest"}
    return blake3(json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def signed_text(data: Mapping[str, Any]) -> str:
    """The data as text with its digest; the cells one to a line, so that git shows which of them changed."""
    signed = {**data, "digest": digest_of(data)}
    rows = signed.get("cells", {}).get("rows", [])
    if not rows:
        return json.dumps(signed, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    mark = f"rows-{signed['digest']}"
    text = json.dumps({**signed, "cells": {**signed["cells"], "rows": [mark]}}, indent=1, ensure_ascii=False, allow_nan=False)
    lines = ",\n   ".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    return text.replace(json.dumps(mark), lines) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ValueError, saying what is wrong but not naming the file, for anything else."""
    try:
        return object_of(read_regular(path, LARGEST_BYTES))
    except OSError as error:
        raise ValueError(error.strerror or type(error).__name__) from error


def object_of(text: bytes) -> dict[str, Any]:
    """The JSON object in a text. Raises ValueError, saying what is wrong, for anything else."""
    try:
        data = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(data, dict):
        raise ValueError(f"holds a {type(data).__name__} where an object was expected")  # noqa: TRY004  like every other
    return data


def is_signed(data: Mapping[str, Any]) -> bool:
    """Whether the digest in the data is that of its content."""
    try:
        return bool(data.get("digest") == digest_of(data))
    except (ValueError, TypeError, RecursionError):
        return False


def _refuse_constant(name: str) -> float:
    raise ValueError(f"holds {name}, which is not a number")
