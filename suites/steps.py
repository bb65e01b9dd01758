"""How few steps are enough, and with which sampler? One checkpoint, three samplers, 4 to 20 steps."""

from pathlib import Path

from harness import BASELINE, Gate, Grid, Objective, Sampling, Suite, read_prompts, sampling_sweep

SUITE = Suite(
    name="steps",
    description="The zoo's photo checkpoint with three samplers and 4 to 20 steps.",
    candidates=sampling_sweep("zoo:photo", steps=(4, 8, 20), samplers=("euler", "dpmpp_2m", "heun"),
                              sampling=Sampling(schedule="karras")),
    baseline="steps=20 sampler=euler",
    grid=Grid(
        prompts=read_prompts(Path(__file__).with_name("zoo_prompts.toml")),
        seeds=(1,), guidance_scales=(5,), width=64, height=64, batch_size=20,
    ),
    metrics=("clip_score", "palette", "exposure"),
    objective=Objective(prefer={"steps": "lowest"}),
    latency_rounds=3,
    gates=(
        Gate(value="coverage"),
        Gate(value="failures", at_most=0),
        Gate(value="clip_score", not_worse_than=BASELINE, margin=2),
    ),
)
