"""How strong should the sketch LoRA be? One checkpoint, one adapter, its weight swept from off to too much."""

from pathlib import Path

from harness import Gate, Grid, Suite, adapter_sweep, read_prompts

SUITE = Suite(
    name="adapter_weights",
    description="The zoo's pencil-sketch LoRA on its base checkpoint.",
    candidates=adapter_sweep("zoo:base", "zoo:sketch", weights=(0, 0.4, 0.7, 1, 1.3, 1.7)),
    baseline="weight=0",
    grid=Grid(
        prompts=read_prompts(Path(__file__).with_name("zoo_sketch_prompts.toml")),
        seeds=(1,),
        guidance_scales=(3, 6),
        sampler="dpmpp_2m", steps=10, width=64, height=64, batch_size=20,
    ),
    metrics=("clip_score", "palette", "exposure"),
    latency_rounds=3,
    gates=(Gate(value="coverage"), Gate(value="failures", at_most=0)),
)
