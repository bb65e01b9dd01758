"""How few bits can the U-Net live with? The same pictures from one merge in six number formats, fp32 as the reference."""

from pathlib import Path

from harness import Candidate, Gate, Grid, Merge, Suite, read_prompts

MODES = ("fp32", "fp16", "bf16", "int8_weight_only", "int8_dynamic", "int4_weight_only")

SUITE = Suite(
    name="quantization",
    description="The middle merge of the zoo's parents, its U-Net in ever fewer bits.",
    candidates=[Candidate(name=mode, model=Merge(a="zoo:photo", b="zoo:anime", alpha=0.5), quantization=mode,
                          axes={"quantization": mode}) for mode in MODES],
    baseline="fp32",
    grid=Grid(
        prompts=read_prompts(Path(__file__).with_name("zoo_prompts.toml")),
        seeds=(1,),
        guidance_scales=(5,),
        sampler="dpmpp_2m", steps=10, width=64, height=64, batch_size=10,
    ),
    metrics=("psnr", "ssim", "clip_score", "palette", "exposure"),
    latency_rounds=3,
    gates=(Gate(value="coverage"), Gate(value="failures", at_most=0)),
)
