"""Candidates that overflow in float16, which they run in by default on a GPU: the error, and the weights that raise it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.records.format_range import FormatRangeError


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
