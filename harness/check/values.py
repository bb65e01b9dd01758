"""Which values a suite can name: those its metrics give per image, those derived from them, and what is known of a run as a
whole. The checks of objectives and gates ask."""

from __future__ import annotations

from typing import Final

from harness.declare import DESIRABILITY, Suite
from harness.metrics import METRICS

DERIVED_VALUES: Final = {"palette_left": "palette"}
COUNTS: Final = ("coverage", "identities", "failures", "failure_rate")
COSTS: Final = ("seconds_per_image", "peak_bytes")
RUN_VALUES: Final = (*COUNTS, *COSTS)
RATINGS: Final = {"rating": "higher", "preferred": "higher"}
"""Values that people give after the run, blind; no metric of a suite has them, and gates may ask for them."""
COLUMNS: Final = frozenset({
    "candidate", "prompt", "text", "split", "seed", "guidance", "sample", "path", "dominant", "psnr", "objective", "clusters",
    DESIRABILITY, *RATINGS, *DERIVED_VALUES, *RUN_VALUES, *METRICS,
    *(spec.name for row in METRICS.values() for spec in row.values)})
"""Names of columns in the tables of a run, which no axis may take."""


def known_values(suite: Suite) -> set[str]:
    """Names of every per-image value that the suite's metrics give."""
    rows = [METRICS[m] for m in suite.metrics if m in METRICS]
    return ({spec.name for row in rows for spec in row.values}
            | {value for value, metric in DERIVED_VALUES.items() if metric in suite.metrics})


def gate_values(suite: Suite) -> set[str]:
    """Names of everything that a gate can be about."""
    derived = {"objective", DESIRABILITY} if suite.objective.maximise == DESIRABILITY else {"objective"}
    return known_values(suite) | derived | {*RUN_VALUES, *RATINGS}


def direction(value: str) -> str:
    """ "higher", "lower" or "nearer" for a value of a metric, and nothing for another."""
    return next((spec.better for row in METRICS.values() for spec in row.values if spec.name == value), "")
