"""Which runtime is the fastest on this machine, and are its images those of eager? Two merges in a row through each."""

from pathlib import Path

from harness import Candidate, Gate, Grid, Merge, Suite, read_prompts

RUNTIMES = ("eager", "compiled", "onnxruntime", "onnxruntime_live", "openvino", "tensorrt")
ALPHAS = (0.0, 0.5)

SUITE = Suite(
    name="runtimes",
    description="The zoo's parents, merged at two weights, through each runtime.",
    candidates=[Candidate(name=f"{runtime} {alpha:g}", model=Merge(a="zoo:photo", b="zoo:anime", alpha=alpha), runtime=runtime,
                          axes={"runtime": runtime, "alpha": alpha}) for alpha in ALPHAS for runtime in RUNTIMES],
    baseline="eager 0.5",
    grid=Grid(
        prompts=read_prompts(Path(__file__).parent.parent / "zoo_prompts.toml"),
        seeds=(1,), guidance_scales=(5,), sampler="dpmpp_2m", steps=10, width=64, height=64, batch_size=10,
    ),
    metrics=("psnr", "ssim", "clip_score", "palette", "exposure"),
    gates=(Gate(value="coverage"), Gate(value="failures", at_most=0)),
)
