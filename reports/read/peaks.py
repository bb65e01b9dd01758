"""Which readings of Memory records are of running a candidate: those of earlier versions are of making it as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from harness.records import Memory
from harness.records.costs import MAKING

PEAK: Final = "_peak_bytes"
BOTH_IN_ONE: Final = "read by an earlier version, which counted what making the candidate takes; run again with --retime"


def to_run(records: Mapping[str, Memory]) -> dict[str, Memory]:
    """The records by candidate; one that holds making and running in one figure, without its peaks and with the reason."""
    return {name: memory if any(reading.name.startswith(MAKING) for reading in memory.readings) else _without_peaks(memory)
            for name, memory in records.items()}


def _without_peaks(memory: Memory) -> Memory:
    return replace(memory, readings=tuple(
        replace(reading, value=None, why_missing=BOTH_IN_ONE) if reading.name.endswith(PEAK) and reading.value is not None
        else reading for reading in memory.readings))
