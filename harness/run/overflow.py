"""Candidates that overflow in float16, which they run in by default on a GPU: the error, and what run.json says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final

from harness.materialise import Overflow
from harness.records.format_range import FormatRangeError

IN_BF16: Final = "in_bf16"
"""In run.json, by name: the candidates that run in bf16 because they overflow in fp16, with both identities and the reason."""


class Fp16OverflowError(Exception):
    """A candidate left float16's range, and may be made once more in bfloat16."""


@contextmanager
def loading(*, may_widen: bool) -> Iterator[None]:
    """Around the making of a candidate that `may_widen`: weights beyond float16's range become an Fp16OverflowError."""
    try:
        yield
    except FormatRangeError as error:
        if may_widen:
            raise Fp16OverflowError(str(error)) from error
        raise


def overflows_of(head: Mapping[str, Any]) -> dict[str, Overflow]:
    """By name, the candidates that overflowed in an earlier session, as its run.json says."""
    entries = head.get(IN_BF16)
    return {name: Overflow(in_fp16=str(entry.get("in_fp16")), why=str(entry.get("why", "")))
            for name, entry in (entries.items() if isinstance(entries, Mapping) else ()) if isinstance(entry, Mapping)}


def entry_of(overflow: Overflow, identity: str) -> dict[str, str]:
    """What run.json says of a candidate that overflows and has this identity in bf16."""
    return {**asdict(overflow), "identity": identity}
