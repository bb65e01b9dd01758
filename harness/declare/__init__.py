"""Frozen declarations: what a suite is made of, as data."""

from harness.declare.budget import Budget, Search
from harness.declare.candidate import AxisValue, Candidate
from harness.declare.effective_grid import grid_of
from harness.declare.from_plain import restore
from harness.declare.gate import BASELINE, PROMOTED, Gate
from harness.declare.grid import SPLITS, Grid, Prompt
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
from harness.declare.objective import DESIRABILITY, SIDES, Constraint, Desirability, Objective, Penalty
from harness.declare.sampling import Sampling
from harness.declare.suite import Suite
from harness.declare.to_plain import plain, short_hash

__all__ = [
    "BASELINE",
    "DESIRABILITY",
    "PROMOTED",
    "SIDES",
    "SPLITS",
    "Adapter",
    "AestheticGradient",
    "Alpha",
    "Alphas",
    "AxisValue",
    "Blocks",
    "Budget",
    "Candidate",
    "Checkpoint",
    "Constraint",
    "Desirability",
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
    "Sampling",
    "Search",
    "Suite",
    "grid_of",
    "plain",
    "restore",
    "short_hash",
]
