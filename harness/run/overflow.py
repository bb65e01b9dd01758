"""What run.json says of candidates that overflow in float16, which they run in by default on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from harness.materialise import Overflow

IN_BF16: Final = "in_bf16"
"""In run.json, by name: the candidates that run in bf16 because they overflow in fp16, with both identities and the reason."""


def overflows_of(head: Mapping[str, Any]) -> dict[str, Overflow]:
    """By name, the candidates that overflowed in an earlier session, as its run.json says."""
    entries = head.get(IN_BF16)
    return {name: Overflow(in_fp16=str(entry.get("in_fp16")), why=str(entry.get("why", "")))
            for name, entry in (entries.items() if isinstance(entries, Mapping) else ()) if isinstance(entry, Mapping)}


def entry_of(overflow: Overflow, identity: str) -> dict[str, str]:
    """What run.json says of a candidate that overflows and has this identity in bf16."""
    return {**asdict(overflow), "identity": identity}
