"""A suite with a budget; see gold.py."""

from harness import Budget, Gate, Grid, Objective, Prompt, Suite, alpha_sweep

COLOURS = ("red", "blue", "orange", "green", "purple", "yellow")
PROMPTS = [Prompt(id=f"{colour}-{thing}", text=f"a {colour} {thing}", split=split)
           for thing, split in (("star", "select"), ("car", "select"), ("cat", "confirm")) for colour in COLOURS]
SUITE = Suite(
    name="gold_race", candidates=alpha_sweep("zoo:photo", "zoo:anime", alphas=(0, 0.5, 1)), baseline="alpha=0",
    grid=Grid(prompts=PROMPTS, seeds=(1,), guidance_scales=(4,), steps=3, width=64, height=64, batch_size=4),
    metrics=("clip_score", "exposure"), latency_rounds=2,
    objective=Objective(maximise="clip_score", penalties=()), budget=Budget(first_prompts=6, step_prompts=6, refine="alpha"),
    gates=(Gate(value="coverage"), Gate(value="clip_score", at_least=1)),
)
