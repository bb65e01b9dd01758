"""What do savers of memory and time change? The same pictures from one model, run in every way that a CPU offers."""

from pathlib import Path

from harness import Candidate, DeepCache, Gate, Grid, Merge, Suite, read_prompts

MODEL = Merge(a="zoo:photo", b="zoo:anime", alpha=0.5)
SAVERS = ("attention_slicing", "sdpa_math", "channels_last", "fuse_qkv", "layerwise_casting", "vae_slicing")
INTERVALS = (2, 3, 5)
WAYS = {"none": {}, **{name: {"savers": (name,)} for name in SAVERS},
        **{f"DeepCache {interval}": {"step_cache": DeepCache(interval=interval)} for interval in INTERVALS}}

SUITE = Suite(
    name="savers",
    description="The middle merge of the zoo's parents, run in less memory or time.",
    candidates=[Candidate(name=name, model=MODEL, axes={"way": name}, **way) for name, way in WAYS.items()],
    baseline="none",
    grid=Grid(
        prompts=read_prompts(Path(__file__).parent.parent / "zoo_prompts.toml"),
        seeds=(1,), guidance_scales=(5,), sampler="dpmpp_2m", steps=10, width=64, height=64, batch_size=10,
    ),
    metrics=("psnr", "ssim", "clip_score", "palette", "exposure"),
    latency_rounds=3,
    gates=(Gate(value="coverage"), Gate(value="failures", at_most=0)),
)
