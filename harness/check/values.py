"""The values that a suite can name, with their rows: values per image of its metrics, values derived from them, and values of a
whole run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from harness.declare import DESIRABILITY, Suite
from harness.metrics import METRICS
from harness.records import RUN_VALUES, ValueSpec
from harness.records.values import values_from

COLUMNS: Final = frozenset({
    "candidate", "prompt", "text", "split", "seed", "guidance", "sample", "path", "same_text", "dominant", "psnr", "clusters",
    *RUN_VALUES, *METRICS, *(spec.name for row in METRICS.values() for spec in row.values)})
"""Names of columns in the tables of a run, which an axis must not have."""


def known_values(suite: Suite) -> dict[str, ValueSpec]:
    """{name: row} of every value per image that the suite's metrics give, or that is derived from one of them."""
    given = {spec.name: spec for name in suite.metrics if (row := METRICS.find(name)) for spec in row.rows(name)}
    return given | {name: spec for name, spec in values_from("derived").items() if spec.metric and spec.metric in suite.metrics}


def gate_values(suite: Suite) -> Mapping[str, ValueSpec]:
    """{name: row} of every value that a gate can judge."""
    whole = {name: spec for name, spec in RUN_VALUES.items() if not spec.metric or spec.origin == "people"}
    if suite.objective.maximise != DESIRABILITY:
        del whole[DESIRABILITY]
    return known_values(suite) | whole
