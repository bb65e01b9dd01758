"""A pipeline of Stable Diffusion 1.5's size with random weights through the whole of a suite: two single files, merges,
pictures, figures, page. Run by hand where a GPU is at hand: `python tests/benchmarks/sd15.py --device cuda`."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from harness import Candidate, Gate, Grid, Merge, Prompt, Suite
from harness.records import Latency, Memory
from harness.run.progress import Bar
from harness.run.suite_run import Options, SuiteRun

PROMPTS = (Prompt(id="cat", text="a photo of an orange cat"), Prompt(id="car", text="a blue car at night"),
           Prompt(id="tree", text="a green tree", split="confirm"), Prompt(id="cup", text="a purple cup", split="confirm"))


def write_parents(folder: Path) -> tuple[str, str]:
    """Two fp16 single files of random weights in SD1's LDM layout, 2.1 GB each; kept when they are there already."""
    import torch

    from harness.weights.ldm import export_ldm
    from harness.weights.live_pipeline import random_sd1
    from harness.weights.write import save_single_file

    for seed, name in enumerate(("a", "b")):
        file = folder / f"{name}.safetensors"
        if not file.exists():
            made = random_sd1(seed, torch.float16)
            save_single_file(file, export_ldm(made.unet.state_dict(), made.vae.state_dict(), made.text_encoder.state_dict()),
                             {"made_by": "tests/benchmarks/sd15.py", "seed": str(seed)})
    return "a.safetensors", "b.safetensors"


def suite(a: str, b: str, size: int, steps: int) -> Suite:
    """Two parents, their middle, and the middle in bf16 and int8."""
    middle = Merge(a=a, b=b, alpha=0.5)
    return Suite(
        name="sd15_random", baseline="alpha=0.5",
        candidates=(Candidate(name="alpha=0.5", model=middle), Candidate(name="alpha=0", model=Merge(a=a, b=b, alpha=0.0)),
                    Candidate(name="alpha=1", model=Merge(a=a, b=b, alpha=1.0)),
                    Candidate(name="bf16", model=middle, quantization="bf16"),
                    Candidate(name="int8", model=middle, quantization="int8_weight_only")),
        grid=Grid(prompts=PROMPTS, seeds=(1,), guidance_scales=(1, 7.5), steps=steps, width=size, height=size, batch_size=4),
        metrics=("psnr", "palette", "exposure", "clip_score"), gates=(Gate(value="coverage"),), latency_rounds=3)


def main() -> None:
    """Prints one JSON line per candidate: median latency by phase and every memory figure or the reason it lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, default=Path(".sweetspot/sd15"))
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    declared = suite(*write_parents(given.folder), given.size, given.steps)
    run = SuiteRun(declared, __file__, Options(root=given.folder, runs=given.folder / "runs", device=given.device, fresh=True),
                   Bar(len(declared.candidates) * 8))
    started = time.perf_counter()
    for candidate in declared.candidates:
        if isinstance(done := run.candidate(candidate), list):
            print(json.dumps({"candidate": candidate.name, "failed": [f"{f.stage}: {f.message}" for f in done]}))
    for failure in run.costs([candidate.name for candidate in declared.candidates]):
        print(json.dumps({"candidate": failure.candidate, "failed": [f"{failure.stage}: {failure.message}"]}))
    for record in run.ledger.journal.read()[0]:
        match record:
            case Latency():
                medians = {k: sorted(v)[len(v) // 2] for k, v in record.seconds.items()}
                print(json.dumps({"candidate": record.candidate, "seconds_per_image": medians}))
            case Memory():
                figures = {r.name: r.why_missing if r.value is None else r.value for r in record.readings}
                print(json.dumps({"candidate": record.candidate, "memory": figures}))
    print(json.dumps({"seconds": time.perf_counter() - started, "environment": run.ledger.head().get("environment")}))
    run.close()


if __name__ == "__main__":
    main()
