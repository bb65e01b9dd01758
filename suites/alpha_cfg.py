"""Which share of the anime checkpoint, and which guidance scale? Weighted sums of two checkpoints over alpha x CFG."""

from pathlib import Path

from harness import BASELINE, Gate, Grid, Suite, alpha_sweep, read_prompts

SUITE = Suite(
    name="alpha_cfg",
    description="Weighted-sum merges of the zoo's photo (alpha 0) and anime (alpha 1) checkpoints, U-Net only.",
    candidates=alpha_sweep("zoo:photo", "zoo:anime", alphas=(0, 0.2, 0.35, 0.5, 0.65, 0.8, 1)),
    baseline="alpha=0",
    grid=Grid(
        prompts=read_prompts(Path(__file__).with_name("zoo_prompts.toml")),
        seeds=(1, 2),
        guidance_scales=(1, 3, 5, 7.5, 15),
        sampler="dpmpp_2m", steps=10, width=64, height=64, batch_size=20,
    ),
    metrics=("clip_score", "palette", "exposure", "structure", "styles"),
    styles={"photo": "a photo", "anime": "an anime drawing", "sketch": "a pencil sketch"},
    latency_rounds=3,
    gates=(
        Gate(value="coverage"),
        Gate(value="failures", at_most=0),
        Gate(value="clip_score", not_worse_than=BASELINE, margin=0.5),
        Gate(value="clipped_share", at_most=0.15),
    ),
)
