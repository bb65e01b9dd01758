"""How close a sweep comes to the bare networks, and how far it is from the loop that everyone writes; nothing decides a test.

    python tests/benchmarks/sweep.py
    python tests/benchmarks/sweep.py --device cuda --model sd15 --dtype bf16 --folder DIR
    python tests/benchmarks/sweep.py --rounds 1 --prompts 2 --steps 2 --plain-prompts 1

ceiling: U-Net and decoder forwards alone, on tensors of the very batch shapes of the sweep, as many batches side by side.
sweep:   a new alpha of one suite through SuiteRun: merge in place, noise, scheduler, decoding, PNG, journal, metrics.
plain:   per alpha a merge of state dicts in Python, loaded into diffusers' pipeline, then one call and one PNG per picture.

Contenders take turns; every figure is the median of --rounds, every ratio the median of the rounds' own ratios. The processor's
seconds say more than the clock's where the machine has other things to do. The first candidate, which loads the model and embeds
the texts for all others, is not timed. Then what each part of the sweep takes by itself. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from harness import Candidate, Grid, Merge, Prompt, Suite, read_prompts
from harness.probes.clock import device_wait
from harness.records import Cell, Failure, Sample
from harness.run.progress import Silent
from harness.run.suite_run import Options, SuiteRun
from harness.run_folder.ledger import Ledger
from harness.samplers import build_scheduler
from harness.sampling import (
    DECODE_BATCH,
    batches,
    encode,
    from_png,
    initial_noise,
    pack,
    pool_of_single_threads,
    side_by_side,
    threads_for,
    to_png,
)

if TYPE_CHECKING:

    from harness.weights import Pipeline

SIZES: Final = {"zoo": (64, 10), "sd15": (512, 20), "sdxl": (1024, 20)}
PROMPTS: Final = Path(__file__).parents[2] / "suites" / "zoo_prompts.toml"
CEILING, SWEEP = "ceiling: U-Net and decoder alone", "sweep, cheapest metric"
CHEAPEST, ALL = ("exposure",), ("exposure", "psnr", "palette", "clip_score")
Seconds = np.ndarray[Any, np.dtype[np.float64]]
"""Two numbers: seconds by the clock, and seconds of the processor in all threads of this process."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is swept: two parents under `root`, the cells of `grid`, the denoiser's `dtype`."""

    a: str
    b: str
    root: Path
    grid: Grid
    device: str
    dtype: str

    def candidate(self, alpha: float) -> Candidate:
        return Candidate(name=f"alpha={alpha:g}", model=Merge(a=self.a, b=self.b, alpha=alpha, parts=("unet",)),
                         quantization=self.dtype, axes={"alpha": alpha})

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(cell for batch in batches(self.grid) for cell in batch)

    @cached_property
    def batches(self) -> tuple[tuple[Cell, ...], ...]:
        """As the sweep makes them: the last of a kind is filled up."""
        return pack(self.grid, self.cells)

    @cached_property
    def wait(self) -> Callable[[], None]:
        return device_wait(self.device)

    def seconds(self, work: Callable[[], object]) -> Seconds:
        self.wait()
        started = np.array([time.perf_counter(), time.process_time()])
        work()
        self.wait()
        took: Seconds = np.array([time.perf_counter(), time.process_time()]) - started
        return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", choices=tuple(SIZES), default="zoo", help="sd15 and sdxl have random weights")
    parser.add_argument("--size", type=int, help="pixels; default 64, 512 or 1024 by model")
    parser.add_argument("--steps", type=int, help="default 10 for the zoo, else 20")
    parser.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--plain-prompts", type=int, default=2, help="prompts of the plain loop; its time is counted up to all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="for pictures and random parents; parents that are there are used again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            print(json.dumps(compare(case_of(given, folder), Path(work), given.rounds, given.plain_prompts)))


def case_of(given: argparse.Namespace, folder: Path) -> Case:
    size, steps = SIZES[given.model]
    prompts = read_prompts(PROMPTS)[:given.prompts]
    grid = Grid(prompts=prompts, seeds=(1, 2) if given.model == "zoo" else (1,), batch_size=given.batch,
                guidance_scales=(1, 3, 5, 7.5, 15) if given.model == "zoo" else (7.5,), sampler="dpmpp_2m",
                steps=given.steps or steps, width=given.size or size, height=given.size or size)
    a, b = ("zoo:photo", "zoo:anime") if given.model == "zoo" else (
        write_parent(folder, given.model, seed, given.device) for seed in (0, 1))
    return Case(a=a, b=b, root=folder, grid=grid, device=given.device, dtype=given.dtype)


def write_parent(folder: Path, model: str, seed: int, device: str) -> str:
    """A diffusers folder of random weights in float16, under `folder`; kept when it is there already."""
    import torch

    from harness.weights import random_sd1, random_sdxl

    name = f"{model}-{seed}"
    if not (folder / name / "model_index.json").exists():
        made = (random_sd1 if model == "sd15" else random_sdxl)(seed, torch.float16, device)
        for part, module in made.parts.items():
            module.save_pretrained(folder / name / part)
        (folder / name / "scheduler").mkdir(exist_ok=True)
        (folder / name / "scheduler" / "scheduler_config.json").write_text(json.dumps(made.scheduler_config))
        (folder / name / "model_index.json").write_text("{}")
    return name


def compare(case: Case, work: Path, rounds: int, plain_prompts: int) -> dict[str, Any]:
    """Runs all contenders by turns and prints two tables."""
    alphas = [(number + 1) / (rounds + 2) for number in range(rounds + 1)]
    cheap, full = (Sweep(case, work / name, alphas, metrics) for name, metrics in (("cheap", CHEAPEST), ("full", ALL)))
    ceiling, plain = Ceiling(case, cheap.run.bench.prepare(case.candidate(0.0)).pipeline), Plain(case, work, plain_prompts)
    taken = by_turns({
        CEILING: ceiling.seconds, SWEEP: cheap.seconds, "sweep, four metrics": full.seconds, "plain loop, torch's threads":
        plain.seconds, "plain loop, one thread": lambda alpha: single_threaded(lambda: plain.seconds(alpha))}, alphas)
    wall = {name: seconds[:, 0] for name, seconds in taken.items()}
    better = min((name for name in wall if name.startswith("plain")), key=lambda name: float(np.median(wall[name])))
    print(f"{'':30} {'images/s':>9} {'range':>15} {'of ceiling':>10} {'x plain':>8} {'processor s':>12} {'of ceiling':>10}")
    for name, seconds in wall.items():
        busy = taken[name][:, 1]
        print(f"{name:30} {1 / np.median(seconds):9.2f} {1 / max(seconds):7.2f}-{1 / min(seconds):7.2f} "
              f"{np.median(wall[CEILING] / seconds):10.3f} {np.median(wall[better] / seconds):8.2f} {np.median(busy):12.5f} "
              f"{np.median(taken[CEILING][:, 1] / busy):10.3f}")
    parts = {name: (part * 1e3).tolist() for name, part in (*cheap.parts(work), *ceiling.parts())}
    print(f"\n{'milliseconds per picture, each part by itself':46} {'clock':>9} {'processor':>10}")
    for name, (clock, processor) in parts.items():
        print(f"  {name:44} {clock:9.3f} {processor:10.3f}")
    share = ceiling.share(float(np.median(wall[SWEEP])))
    cheap.run.close()
    full.run.close()
    return {"images_per_second": {name: float(1 / np.median(seconds)) for name, seconds in wall.items()},
            "thrown_away": sum(map(len, case.batches)) / len(case.cells) - 1,
            "sweep_of_ceiling": float(np.median(wall[CEILING] / wall[SWEEP])),
            "sweep_times_plain": float(np.median(wall[better] / wall[SWEEP])), "milliseconds": parts, **share,
            "seconds": {name: seconds.round(6).tolist() for name, seconds in taken.items()}, "rounds": rounds,
            "device": case.device, "dtype": case.dtype, "batch": case.grid.batch_size, "size": case.grid.width,
            "steps": case.grid.steps, "batches_side_by_side": side_by_side(case.grid, case.device)}


def by_turns(contenders: Mapping[str, Callable[[float], Seconds]], alphas: Sequence[float]) -> dict[str, Seconds]:
    """Seconds per picture of each, (rounds, 2); every round has an alpha of its own, and the first does not count."""
    taken: dict[str, list[Seconds]] = {name: [] for name in contenders}
    for alpha in alphas:
        for name, contender in contenders.items():
            seconds = contender(alpha)
            if alpha != alphas[0]:
                taken[name].append(seconds)
    return {name: np.stack(seconds) for name, seconds in taken.items()}


def single_threaded(work: Callable[[], Seconds]) -> Seconds:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return work()
    finally:
        torch.set_num_threads(before)


class Ceiling:
    """The networks alone. Guidance doubles the U-Net's batch; no text, no scheduler, no noise, no pictures."""

    def __init__(self, case: Case, pipeline: Pipeline) -> None:
        self.case, self.pipeline = case, pipeline
        self.batches = case.batches
        one = next(iter(encode(pipeline, case.grid.prompts[:1]).positive.values()))
        self._dtype = pipeline.unet.conv_in.weight.dtype
        self._text = one

    def unet(self, cells: tuple[Cell, ...]) -> None:
        """All steps of one batch."""
        import torch

        from harness.weights import added_conditions

        latents = initial_noise(self.pipeline, self.case.grid, cells[:1]).to(self._dtype)
        rows = len(cells) * (2 if cells[0].guidance != 1 else 1)
        given: dict[str, Any] = {"encoder_hidden_states": self._text.states.to(self._dtype).expand(rows, -1, -1).contiguous()}
        pooled = None if self._text.pooled is None else self._text.pooled.expand(rows, -1)
        if (added := added_conditions(self.pipeline, pooled, self.case.grid.width, self.case.grid.height)) is not None:
            given["added_cond_kwargs"] = {name: v if name == "time_ids" else v.to(self._dtype) for name, v in added.items()}
        latents = latents.expand(rows, -1, -1, -1).contiguous()
        timestep = torch.tensor(500, device=latents.device)
        for _ in range(self.case.grid.steps):
            self.pipeline.unet(latents, timestep, **given)

    def decoder(self, cells: tuple[Cell, ...]) -> None:
        import torch

        latents = initial_noise(self.pipeline, self.case.grid, cells[:1]).to(self.pipeline.vae.dtype)
        latents = latents.expand(len(cells), -1, -1, -1).contiguous()
        for part in torch.split(latents, DECODE_BATCH):
            self.pipeline.vae.decode(part)

    def seconds(self, _: float = 0.0, *, unet: bool = True, decoder: bool = True) -> Seconds:
        """Seconds per picture of all batches, or of one network alone."""
        import torch

        def batch(cells: tuple[Cell, ...]) -> int:
            with torch.inference_mode():
                if unet:
                    self.unet(cells)
                if decoder:
                    self.decoder(cells)
            return len(cells)

        workers = side_by_side(self.case.grid, self.case.device)
        with threads_for(self.case.grid, self.case.device):
            if workers == 1:
                took = self.case.seconds(lambda: [batch(cells) for cells in self.batches])
            else:
                with pool_of_single_threads(workers) as pool:
                    took = self.case.seconds(lambda: list(pool.map(batch, self.batches)))
        return took / len(self.case.cells)

    def parts(self) -> list[tuple[str, Seconds]]:
        return [("U-Net, batches side by side", self.seconds(decoder=False)),
                ("decoder, batches side by side", self.seconds(unet=False))]

    def share(self, seconds_per_image: float) -> dict[str, float]:
        """Operations of the networks per picture, the device's measured peak in matrix products of the denoiser's dtype, and
        the share of it that a picture in so many seconds makes."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        kinds = Counter((cells[0].guidance, len(cells)) for cells in self.batches)
        operations = 0
        for (guidance, size), times in kinds.items():
            cells = next(c for c in self.batches if (c[0].guidance, len(c)) == (guidance, size))
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                self.unet(cells)
                self.decoder(cells)
            operations += times * counter.get_total_flops()
        per_image = operations / len(self.case.cells)
        n = 8192 if self.case.device.startswith("cuda") and not self.case.a.startswith("zoo:") else 1024
        left = torch.randn(n, n, device=self.pipeline.device).to(self._dtype)
        peak = 2 * n ** 3 * 10 / min(
            float(self.case.seconds(lambda: [left @ left for _ in range(10)])[0]) for _ in range(7))
        return {"flop_per_image": per_image, "matmul_peak_flop_per_second": peak,
                "share_of_peak": per_image / seconds_per_image / peak}


class Sweep:
    """One suite whose candidates are timed one after the other; its first one is done beforehand."""

    def __init__(self, case: Case, folder: Path, alphas: Sequence[float], metrics: tuple[str, ...]) -> None:
        self.case, first = case, case.candidate(0.0)
        suite = Suite(name="sweep", candidates=(first, *map(case.candidate, alphas)), baseline=first.name, grid=case.grid,
                      metrics=metrics)
        self.run = SuiteRun(suite, __file__, Options(root=case.root, runs=folder, device=case.device), Silent())
        self.seconds(0.0)

    def seconds(self, alpha: float) -> Seconds:
        """Seconds per picture of a whole candidate, its journal on the disk."""
        done: list[Any] = []
        took = self.case.seconds(lambda: done.append(self.run.candidate(self.case.candidate(alpha))))
        if isinstance(done[0], list):
            raise SystemExit("; ".join(f"{f.stage}: {f.message}" for f in done[0] if isinstance(f, Failure)))
        return took / len(self.case.cells)

    def parts(self, work: Path) -> list[tuple[str, Seconds]]:
        """Seconds per picture of what is beside the networks, one thread, one thing after the other."""
        import torch

        case, grid, ledger = self.case, self.case.grid, Ledger(work / "parts")
        cells, count = case.batches[-1], len(case.cells)
        pipeline = self.run.bench.prepare(case.candidate(0.97)).pipeline
        noise = initial_noise(pipeline, grid, cells)
        samples = [*self.run.ledger.samples.values()][:len(cells)]
        pictures = [self.run.ledger.read(sample) for sample in samples]
        arrays = [from_png(data) for data in pictures]
        stored = [(Sample(key=f"{number:032d}", candidate="parts", cell=cell, path=f"images/{number}.png", sha256="0" * 64), data)
                  for number, (cell, data) in enumerate(zip(cells, pictures, strict=False))]

        def schedule() -> None:
            scheduler = build_scheduler(grid.sampler, pipeline.scheduler_config)
            scheduler.set_timesteps(grid.steps, device=pipeline.device)
            latents = noise
            for timestep in scheduler.timesteps:
                scheduler.scale_model_input(latents, timestep)
                latents = scheduler.step(noise, timestep, latents).prev_sample

        def keep() -> None:
            ledger.store(stored)
            ledger.flush()

        per_batch: Mapping[str, Callable[[], object]] = {
            "noise": lambda: initial_noise(pipeline, grid, cells), "scheduler": schedule,
            "PNG": lambda: [to_png(array) for array in arrays], "files and journal, synced": keep,
            "reading the pictures back": lambda: self.run.gallery.pixels(samples)}
        with torch.inference_mode(), threads_for(grid, case.device):
            found = [(name, np.median([case.seconds(part) for _ in range(7)], axis=0) / len(cells))
                     for name, part in per_batch.items()]
            text = case.seconds(lambda: encode(pipeline, grid.prompts)) / count
        merging = [case.seconds(lambda a=alpha: self.run.bench.prepare(case.candidate(a))) / count  # type: ignore[misc]
                   for alpha in (0.91, 0.92, 0.93)]
        return [*found, ("merge in place", np.median(merging, axis=0)), ("text (once a suite)", text)]


class Plain:
    """What everyone writes: both parents' U-Nets as state dicts, a weighted sum of every tensor, one call per picture."""

    def __init__(self, case: Case, work: Path, prompts: int) -> None:
        import torch
        from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

        from harness.materialise import Workbench

        bench = Workbench(device=case.device, root=case.root)
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[case.dtype]
        # In fp32, whose modules cast nothing by themselves.
        one, two = (bench.prepare(Candidate(name=name, model=name, quantization="fp32")).pipeline for name in (case.a, case.b))
        self._a, self._b = ({key: value.to(dtype) for key, value in p.unet.state_dict().items()} for p in (one, two))
        parts = dict(one.parts)
        tokenizers = {e.component.replace("text_encoder", "tokenizer"): e.tokenizer for e in one.encoders}
        scheduler = build_scheduler(case.grid.sampler, one.scheduler_config)
        self.pipe: Any = StableDiffusionXLPipeline(**parts, **tokenizers, scheduler=scheduler) if "text_encoder_2" in parts else (
            StableDiffusionPipeline(**parts, **tokenizers, scheduler=scheduler, safety_checker=None, feature_extractor=None,
                                    requires_safety_checker=False))
        self.pipe.to(case.device, dtype)  # its text encoders are kept on the host
        self.pipe.set_progress_bar_config(disable=True)
        self.case, self.folder, chosen = case, work / "plain", case.grid.prompts[:prompts]
        self.folder.mkdir()
        self.calls: list[tuple[Prompt, float]] = [(p, g) for p in chosen for g in case.grid.guidance_scales]

    def merge(self, alpha: float) -> None:
        self.pipe.unet.load_state_dict({key: (1 - alpha) * self._a[key] + alpha * self._b[key] for key in self._a})

    def pictures(self) -> None:
        import torch

        grid = self.case.grid
        for number, (prompt, guidance) in enumerate(self.calls):
            made = self.pipe(prompt.text, negative_prompt=prompt.negative, num_inference_steps=grid.steps, width=grid.width,
                             height=grid.height, guidance_scale=guidance, generator=torch.Generator().manual_seed(number))
            made.images[0].save(self.folder / f"{number}.png")

    def seconds(self, alpha: float) -> Seconds:
        """Seconds per picture: the merge shared out over all cells of the grid, and the pictures made of some of them."""
        count = len(self.case.cells)
        merging = self.case.seconds(lambda: self.merge(alpha))
        return merging / count + self.case.seconds(self.pictures) / len(self.calls)


if __name__ == "__main__":
    main()
