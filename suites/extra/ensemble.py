"""Merge or ensemble? Two checkpoints merged, averaged at every step, or taking turns, beside each of them alone."""

from pathlib import Path

from harness import BASELINE, Candidate, Ensemble, Gate, Grid, Merge, Relay, Suite, read_prompts

BOTH = ("zoo:photo", "zoo:anime")

SUITE = Suite(
    name="ensemble",
    description="The zoo's photo and anime checkpoints: their merge, their ensemble, and relays of the two.",
    candidates=(
        Candidate(name="merge", model=Merge(a=BOTH[0], b=BOTH[1], alpha=0.5)),
        Candidate(name="ensemble", model=Ensemble(models=BOTH, weights=(0.5, 0.5))),
        Candidate(name="relay at 0.25", model=Relay(models=BOTH, at=(0.25,))),
        Candidate(name="relay at 0.5", model=Relay(models=BOTH, at=(0.5,))),
        Candidate(name="photo", model=BOTH[0]),
        Candidate(name="anime", model=BOTH[1]),
    ),
    baseline="merge",
    grid=Grid(
        prompts=read_prompts(Path(__file__).parents[1] / "zoo_prompts.toml"),
        seeds=(1,), guidance_scales=(3,), steps=20, width=64, height=64, batch_size=20,
    ),
    metrics=("clip_score", "palette", "exposure", "psnr"),
    latency_rounds=3,
    gates=(
        Gate(value="coverage"),
        Gate(value="failures", at_most=0),
        Gate(value="clip_score", not_worse_than=BASELINE, margin=2),
    ),
)
