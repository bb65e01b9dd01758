"""Sweetspot's harness: how declared merges, adapters and quantizations are tried. This page re-exports the words a
suite needs; nothing heavy is imported."""

from harness.declare import (
    BASELINE,
    Adapter,
    Candidate,
    Checkpoint,
    Gate,
    Grid,
    Merge,
    Objective,
    Penalty,
    Prompt,
    Suite,
    adapter_sweep,
    alpha_sweep,
    read_prompts,
)

__version__ = "0.1.0"

__all__ = [
    "BASELINE",
    "Adapter",
    "Candidate",
    "Checkpoint",
    "Gate",
    "Grid",
    "Merge",
    "Objective",
    "Penalty",
    "Prompt",
    "Suite",
    "adapter_sweep",
    "alpha_sweep",
    "read_prompts",
]
