"""The rows of values by name, for tests that call statistics without a run."""

from __future__ import annotations

from typing import Final

from harness.metrics import METRICS
from harness.records import ValueSpec
from harness.records.values import spec_of

ROWS: Final = {spec.name: spec for name, metric in METRICS.items() for spec in metric.rows(name)}
BROKEN: Final = ValueSpec(name="broken", title="Broken", unit="share", better="lower", kind="flag", definition="1 where broken")


def row(name: str) -> ValueSpec:
    """The row of a metric's value or of RUN_VALUES; of "broken" that of a flag; of any other name that of a plain number."""
    return BROKEN if name == BROKEN.name else spec_of(ROWS, name)
