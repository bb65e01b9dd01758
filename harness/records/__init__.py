"""What a run writes: frozen records, and the append-only journal that holds them."""

from typing import Final

from harness.records.atomic import sync_folder, write_atomically
from harness.records.costs import (
    PHASES,
    BatchCurve,
    BatchPoint,
    Durations,
    Fit,
    Latency,
    Memory,
    Power,
    Reading,
    Series,
    Span,
    Timeline,
)
from harness.records.events import (
    Dropped,
    Failure,
    Finished,
    Look,
    SessionStart,
    Weights,
    cells_of,
    standing_looks,
)
from harness.records.images import Cell, Coverage, Defect, Intermediate, Measurement, NoiseFloor, Sample, finite, sample_key
from harness.records.journal import Journal
from harness.records.json_lines import Record, from_line, to_line
from harness.records.values import RUN_VALUES, ValueSpec

__all__ = [
    "PHASES",
    "RUN_FORMAT",
    "RUN_VALUES",
    "BatchCurve",
    "BatchPoint",
    "Cell",
    "Coverage",
    "Defect",
    "Dropped",
    "Durations",
    "Failure",
    "Finished",
    "Fit",
    "Intermediate",
    "Journal",
    "Latency",
    "Look",
    "Measurement",
    "Memory",
    "NoiseFloor",
    "Power",
    "Reading",
    "Record",
    "Sample",
    "Series",
    "SessionStart",
    "Span",
    "Timeline",
    "ValueSpec",
    "Weights",
    "cells_of",
    "finite",
    "from_line",
    "sample_key",
    "standing_looks",
    "sync_folder",
    "to_line",
    "write_atomically",
]

RUN_FORMAT: Final = 1
"""Format of a run folder, written in its run.json. Raise it when an older reader would misread the folder."""
