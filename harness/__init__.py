"""Sweetspot's harness: how declared merges, adapters and quantizations are tried. This page re-exports the words a
suite needs, and how to run one from Python; nothing heavy is imported before it is used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from harness.declare import (
    BASELINE,
    DESIRABILITY,
    PROMOTED,
    Adapter,
    AestheticGradient,
    Alphas,
    Blocks,
    Budget,
    Candidate,
    Canny,
    Checkpoint,
    ColourTransfer,
    Constraint,
    Control,
    DeepCache,
    Desirability,
    Emphasis,
    Ensemble,
    FirstBlock,
    Fused,
    Gate,
    Gradient,
    Grid,
    Inpaint,
    Lut,
    MagCache,
    Merge,
    Mixed,
    Objective,
    Penalty,
    Pose,
    Prompt,
    Reference,
    Relay,
    Sampling,
    Search,
    Stage,
    Suite,
    TaylorSeer,
    Temperature,
    Upscale,
)
from harness.declare.guide_sweeps import control_sweep, reference_sweep
from harness.declare.guiding import STAGE_BEFORE
from harness.declare.model_sweeps import ensemble_sweep, relay_sweep
from harness.declare.picture_text import PictureText
from harness.declare.picture_texts import picture_text
from harness.declare.picture_uses import with_pictures
from harness.declare.prompt_files import read_prompts
from harness.declare.prompt_sets import prompt_set
from harness.declare.recipe_files import read_recipe, recipe_text
from harness.declare.sampling_sweep import sampling_sweep
from harness.declare.stage_sweeps import strength_sweep
from harness.declare.sweeps import adapter_files, adapter_grid, adapter_sweep, alpha_sweep, block_sweep, sweep
from harness.version import __version__

if TYPE_CHECKING:
    from harness.adapters.checkpoint_sweep import checkpoint_sweep as checkpoint_sweep
    from harness.session.from_python import DeclarationError as DeclarationError
    from harness.session.from_python import run_suite as run_suite
    from reports.analysis import load_run as load_run

_LAZY: Final = {"run_suite": "harness.session.from_python", "load_run": "reports.analysis",
                "DeclarationError": "harness.session.from_python"}
"""What needs torch or pandas, and where it is. Not in `__all__`, so that `from harness import *` in a suite file stays light."""
_READS_HEADERS: Final = {"checkpoint_sweep": "harness.adapters.checkpoint_sweep"}
"""What opens files as it is called, and is imported on its first use; it needs no torch."""

__all__ = [
    "BASELINE",
    "DESIRABILITY",
    "PROMOTED",
    "STAGE_BEFORE",
    "Adapter",
    "AestheticGradient",
    "Alphas",
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
    "Objective",
    "Penalty",
    "PictureText",
    "Pose",
    "Prompt",
    "Reference",
    "Relay",
    "Sampling",
    "Search",
    "Stage",
    "Suite",
    "TaylorSeer",
    "Temperature",
    "Upscale",
    "__version__",
    "adapter_files",
    "adapter_grid",
    "adapter_sweep",
    "alpha_sweep",
    "block_sweep",
    "checkpoint_sweep",
    "control_sweep",
    "ensemble_sweep",
    "picture_text",
    "prompt_set",
    "read_prompts",
    "read_recipe",
    "recipe_text",
    "reference_sweep",
    "relay_sweep",
    "sampling_sweep",
    "strength_sweep",
    "sweep",
    "with_pictures",
]


def __getattr__(name: str) -> Any:
    """Imports what needs torch or pandas on its first use: checking a declaration must not wait for them."""
    if name in _READS_HEADERS:
        return getattr(import_module(_READS_HEADERS[name]), name)
    if name not in _LAZY:
        raise AttributeError(f"module 'harness' has no attribute {name!r}; it has {', '.join([*__all__, *_LAZY])}")
    if wrong := import_module("harness.session.own_packages").keep_own_packages():
        raise ImportError(wrong)
    return getattr(import_module(_LAZY[name]), name)
