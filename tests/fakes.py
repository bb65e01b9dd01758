"""Small real things for tests: a suite on tiny files, and a random pipeline of SD1's layout that samples in milliseconds."""

from __future__ import annotations

from harness import Candidate, Gate, Grid, Prompt, Suite, alpha_sweep
from harness.declare import Objective

PROMPTS = (
    Prompt(id="star", text="a red star"),
    Prompt(id="car", text="a blue car"),
    Prompt(id="cat", text="an orange cat"),
    Prompt(id="fish", text="a green fish", split="confirm"),
    Prompt(id="cup", text="a purple cup", split="confirm"),
)


def tiny_grid(**changes: object) -> Grid:
    """Five prompts, one seed, two guidance scales, two steps."""
    values: dict[str, object] = {"prompts": PROMPTS, "seeds": (1,), "guidance_scales": (1, 4), "steps": 2,
                                 "width": 64, "height": 64, "batch_size": 4}
    return Grid(**{**values, **changes})  # type: ignore[arg-type]


def tiny_suite(**changes: object) -> Suite:
    """Three merges of the zoo's parents on the tiny grid."""
    values: dict[str, object] = {
        "name": "tiny", "candidates": alpha_sweep("zoo:photo", "zoo:anime", (0, 0.5, 1)), "baseline": "alpha=0",
        "grid": tiny_grid(), "metrics": ("psnr", "clip_score", "palette", "exposure"), "objective": Objective(),
        "gates": (Gate(value="coverage"),), "latency_rounds": 2}
    return Suite(**{**values, **changes})  # type: ignore[arg-type]


def plain_candidate(name: str = "photo", **changes: object) -> Candidate:
    """The zoo's photo checkpoint as it is."""
    return Candidate(**{"name": name, "model": "zoo:photo", **changes})  # type: ignore[arg-type]
