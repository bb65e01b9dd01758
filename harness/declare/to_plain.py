"""Declarations as JSON-ready data and the hash of it. The hash names candidates, plans and settings everywhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Final

from harness.declare.mixed import Mixed
from harness.declare.models import DENOISER, Alphas, Merge
from harness.declare.younger_fields import LEFT_OUT

OLD_DENOISER: Final = ["unet"]
"""How plain data spells a merge's default parts: "unet" was the default before transformers were merged by default, and what was
hashed then is hashed alike now."""


def plain(value: Any) -> Any:
    """A declaration as JSON-ready data; a dataclass becomes a dict with its class name under "is"."""
    if isinstance(value, Alphas | Mixed) and isinstance(value.keys, Mapping):
        return {"is": type(value).__name__, **{f.name: plain(getattr(value, f.name)) for f in fields(value)},
                "keys": [[str(pattern), plain(of)] for pattern, of in value.keys.items()]}
    if isinstance(value, Merge) and value.parts == (DENOISER,):
        return {"is": "Merge", **{f.name: plain(getattr(value, f.name)) for f in fields(value)}, "parts": list(OLD_DENOISER)}
    if is_dataclass(value) and not isinstance(value, type):
        return {"is": type(value).__name__, **{
            f.name: plain(getattr(value, f.name)) for f in fields(value)
            if not (f.metadata.get(LEFT_OUT) and getattr(value, f.name) == _default(f))}}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(v) for v in value]
    return value


def _default(spec: Field[Any]) -> Any:
    return spec.default if spec.default_factory is MISSING else spec.default_factory()


def short_hash(data: Any) -> str:
    """First 16 hex digits of the SHA-256 of the canonical JSON of `data`."""
    text = json.dumps(plain(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
