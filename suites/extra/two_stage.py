"""How strongly should a second stage draw a picture again? The photo checkpoint, then the anime one, image to image.

The second model alone is beside it: models that start from the same noise share their layout anyway.
"""

from pathlib import Path

from harness import BASELINE, Candidate, Gate, Grid, Stage, Suite, read_prompts, strength_sweep

SUITE = Suite(
    name="two_stage",
    description="Photo, then anime: strength 0.3 to 0.7 of the second stage, beside each model alone.",
    candidates=(
        *strength_sweep("zoo:photo", Stage(model="zoo:anime"), (0, 0.3, 0.5, 0.7)),
        Candidate(name="anime alone", model="zoo:anime"),
    ),
    baseline="strength=0",
    grid=Grid(
        prompts=read_prompts(Path(__file__).parent.with_name("zoo_prompts.toml")),
        seeds=(1,), guidance_scales=(3,), steps=20, width=64, height=64, batch_size=10,
    ),
    metrics=("clip_score", "palette", "exposure", "styles", "edges"),
    styles={"photo": "a photo", "anime": "an anime drawing"},
    latency_rounds=3,
    gates=(
        Gate(value="coverage"),
        Gate(value="failures", at_most=0),
        Gate(value="clip_score", not_worse_than=BASELINE, margin=2),
    ),
)
