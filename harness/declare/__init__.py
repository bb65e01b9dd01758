"""Frozen declarations: what a suite is made of, as data. Suites build them; check, materialise, sample, run and the
reports read them."""

from harness.declare.models import (
    Adapter,
    AestheticGradient,
    Alpha,
    Alphas,
    Blocks,
    Checkpoint,
    Emphasis,
    Fused,
    Gradient,
    Merge,
    Model,
)
from harness.declare.restoring import restore
from harness.declare.suite import BASELINE, SPLITS, AxisValue, Candidate, Gate, Grid, Objective, Penalty, Prompt, Suite
from harness.declare.written import plain, short_hash

__all__ = [
    "BASELINE",
    "SPLITS",
    "Adapter",
    "AestheticGradient",
    "Alpha",
    "Alphas",
    "AxisValue",
    "Blocks",
    "Candidate",
    "Checkpoint",
    "Emphasis",
    "Fused",
    "Gate",
    "Gradient",
    "Grid",
    "Merge",
    "Model",
    "Objective",
    "Penalty",
    "Prompt",
    "Suite",
    "plain",
    "restore",
    "short_hash",
]
