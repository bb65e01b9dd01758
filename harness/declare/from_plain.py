"""Rebuilds declarations from the data that `plain` made of them."""

from __future__ import annotations

from typing import Any, Final

from harness.declare.budget import Budget, Search
from harness.declare.candidate import NOT_QUANTIZED, Candidate
from harness.declare.gate import Gate
from harness.declare.grid import Grid, Prompt
from harness.declare.guiding import Canny, Control, Inpaint, Reference
from harness.declare.mixed import Mixed
from harness.declare.models import (
    DENOISER,
    Adapter,
    AestheticGradient,
    Alphas,
    Blocks,
    Checkpoint,
    Emphasis,
    Ensemble,
    Fused,
    Gradient,
    Merge,
    Relay,
)
from harness.declare.objective import Constraint, Desirability, Objective, Penalty
from harness.declare.pose import Pose
from harness.declare.post_steps import ColourTransfer, Lut, Temperature, Upscale
from harness.declare.sampling import Sampling
from harness.declare.stages import Stage
from harness.declare.step_cache import DeepCache, FirstBlock, MagCache, TaylorSeer
from harness.declare.suite import Suite
from harness.declare.to_plain import OLD_DENOISER

DECLARATIONS: Final[dict[str, Any]] = {c.__name__: c for c in (
    Checkpoint, Blocks, Gradient, Alphas, Mixed, Merge, Fused, Relay, Ensemble, Adapter, AestheticGradient, Emphasis, Prompt,
    Sampling, Grid, Canny, Control, Reference, Inpaint, ColourTransfer, Lut, Temperature, Upscale, Stage, DeepCache, FirstBlock,
    TaylorSeer, MagCache, Candidate,
    Penalty, Constraint, Desirability, Objective, Gate, Budget, Search, Pose, Suite)}


def restore(data: Any) -> Any:
    """The inverse of `plain` for the declarations of this package; lists become tuples."""
    if isinstance(data, dict):
        inner = {k: restore(v) for k, v in data.items() if k != "is"}
        if data.get("is") == "Merge" and data.get("parts") == OLD_DENOISER:
            inner["parts"] = (DENOISER,)
        if data.get("is") == "Candidate" and inner.get("quantization") == NOT_QUANTIZED and "precision" not in inner:
            # Where fp32 was asked for, the precision says so too.
            del inner["quantization"]
        return DECLARATIONS[data["is"]](**inner) if data.get("is") in DECLARATIONS else inner
    if isinstance(data, list):
        return tuple(restore(v) for v in data)
    return data
