"""The suites of tests/gold: the run folders and the baseline there were made from this file at version 0.1.0."""

from harness import BASELINE, PROMOTED, Gate, Grid, Prompt, Suite, alpha_sweep

PROMPTS = [Prompt(id=name, text=f"a {name.replace('-', ' ')}", split="confirm" if number % 2 else "select")
           for number, name in enumerate(("red-star", "blue-car", "orange-cat", "green-fish", "purple-cup", "yellow-sun",
                                          "red-house", "blue-tree"))]
SUITE = Suite(
    name="gold", candidates=alpha_sweep("zoo:photo", "zoo:anime", alphas=(0, 0.5, 1)), baseline="alpha=0",
    grid=Grid(prompts=PROMPTS, seeds=(1,), guidance_scales=(1, 4), steps=3, width=64, height=64, batch_size=4),
    metrics=("clip_score", "palette", "exposure", "structure", "styles", "psnr", "ssim"),
    styles={"photo": "a photo", "anime": "an anime drawing"}, latency_rounds=2,
    gates=(Gate(value="coverage"), Gate(value="failures", at_most=0),
           Gate(value="clip_score", not_worse_than=BASELINE, margin=40),
           Gate(value="clipped_share", at_most=0.5), Gate(value="clip_score", not_worse_than=PROMOTED, margin=40)),
)
