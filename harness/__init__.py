"""Sweetspot's harness: how declared merges, adapters and quantizations are tried. This page re-exports the words a
suite needs; nothing heavy is imported."""

from harness.declare import (
    BASELINE,
    Adapter,
    AestheticGradient,
    Alphas,
    Blocks,
    Candidate,
    Checkpoint,
    Emphasis,
    Fused,
    Gate,
    Gradient,
    Grid,
    Merge,
    Objective,
    Penalty,
    Prompt,
    Suite,
)
from harness.sweeps import adapter_grid, adapter_sweep, alpha_sweep, block_sweep, sweep
from harness.written import read_prompts, read_recipe, recipe_text

__version__ = "0.1.0"

__all__ = [
    "BASELINE",
    "Adapter",
    "AestheticGradient",
    "Alphas",
    "Blocks",
    "Candidate",
    "Checkpoint",
    "Emphasis",
    "Fused",
    "Gate",
    "Gradient",
    "Grid",
    "Merge",
    "Objective",
    "Penalty",
    "Prompt",
    "Suite",
    "adapter_grid",
    "adapter_sweep",
    "alpha_sweep",
    "block_sweep",
    "read_prompts",
    "read_recipe",
    "recipe_text",
    "sweep",
]
