"""Frozen declarations: what a suite is made of, as data."""

from harness.declare.budget import Budget, Search
from harness.declare.candidate import AxisValue, Candidate
from harness.declare.effective_grid import grid_of
from harness.declare.from_plain import restore
from harness.declare.gate import BASELINE, PROMOTED, Gate
from harness.declare.grid import SPLITS, Grid, Prompt
from harness.declare.guiding import Canny, Control, Inpaint, Reference
from harness.declare.mixed import Mixed
from harness.declare.models import (
    MODELS,
    Adapter,
    AestheticGradient,
    Alpha,
    Alphas,
    Blocks,
    Checkpoint,
    Emphasis,
    Ensemble,
    Fused,
    Gradient,
    Merge,
    Model,
    Recipe,
    Relay,
)
from harness.declare.objective import DESIRABILITY, SIDES, Constraint, Desirability, Objective, Penalty
from harness.declare.pose import Pose
from harness.declare.post_steps import ColourTransfer, Lut, PostStep, Temperature, Upscale
from harness.declare.sampling import Sampling
from harness.declare.stages import Stage
from harness.declare.step_cache import DeepCache, FirstBlock, MagCache, StepCache, TaylorSeer
from harness.declare.suite import Suite
from harness.declare.to_plain import plain, short_hash

__all__ = [
    "BASELINE",
    "DESIRABILITY",
    "MODELS",
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
    "Canny",
    "Checkpoint",
    "ColourTransfer",
    "Constraint",
    "Control",
    "DeepCache",
    "Desirability",
    "Emphasis",
    "Ensemble",
    "FirstBlock",
    "Fused",
    "Gate",
    "Gradient",
    "Grid",
    "Inpaint",
    "Lut",
    "MagCache",
    "Merge",
    "Mixed",
    "Model",
    "Objective",
    "Penalty",
    "Pose",
    "PostStep",
    "Prompt",
    "Recipe",
    "Reference",
    "Relay",
    "Sampling",
    "Search",
    "Stage",
    "StepCache",
    "Suite",
    "TaylorSeer",
    "Temperature",
    "Upscale",
    "grid_of",
    "plain",
    "restore",
    "short_hash",
]
